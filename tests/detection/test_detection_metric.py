"""The decoder of FastestDet and AP50, against loops, cases worked by hand and the published figure."""

from __future__ import annotations

import numpy as np
import pytest
from fastestdet import Boxes, average_precision, decode, overlaps, read_labels

from edgeprune.data.preprocess import Preprocess, preprocess_rows
from edgeprune.data.source import decode_images


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    table = np.array(rows, float).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(int), table[:, 5])


def test_a_single_cell_that_sees_an_object():
    output = np.zeros((5 + 3, 4, 5))
    output[0, 2, 1], output[5 + 2, 2, 1] = 0.8, 0.5
    output[1:5, 2, 1] = np.arctanh(0.25), np.arctanh(-0.5), np.log(0.4 / 0.6), np.log(0.2 / 0.8)
    found = decode(output)
    x, y = (1 + 0.25) / 5, (2 - 0.5) / 4
    np.testing.assert_allclose(found.corners, [[x - 0.2, y - 0.1, x + 0.2, y + 0.1]], atol=1e-12)
    assert (found.classes.tolist(), found.scores.tolist()) == ([2], [0.4])


def test_doubles_go_within_a_class_only():
    output = np.zeros((5 + 2, 1, 3))
    output[3:5] = 10  # every cell sees the whole image
    output[0] = 1
    output[5, 0, :2], output[6, 0, 2] = (0.6, 0.9), 0.7
    output[1, 0] = np.arctanh(np.array([0.5, -0.5, -0.5]))
    found = decode(output)
    assert (found.classes.tolist(), found.scores.tolist()) == ([0, 1], [0.9, 0.7])


def test_overlap_by_counting_pixels():
    random = np.random.default_rng(0)
    corners = random.integers(0, 20, (12, 2, 2))
    corners[:, 1] = corners[:, 0] + random.integers(1, 9, (12, 2))
    table = corners.reshape(12, 4)
    pixels = [{(x, y) for x in range(a, c) for y in range(b, d)} for a, b, c, d in table.tolist()]
    expected = [[len(one & other) / len(one | other) for other in pixels] for one in pixels]
    np.testing.assert_allclose(overlaps(table[:6], table[6:]), np.array(expected)[:6, 6:])


def test_average_precision_by_hand():
    real = [boxes((0, 0, 1, 1, 0, 1), (2, 2, 3, 3, 0, 1)), boxes((0, 0, 1, 1, 1, 1))]
    assert average_precision(real, real) == 1.0
    # Class 0: a hit, its double (a miss), the second hit: recall .5 at precision 1, recall 1 at 2/3. Class 1: nothing.
    found = [
        boxes((0, 0, 1, 1, 0, 0.9), (0, 0, 1, 0.9, 0, 0.8), (2, 2, 3, 3, 0, 0.7)),
        boxes((5, 5, 6, 6, 1, 0.9)),
    ]
    assert average_precision(found, real) == pytest.approx((51 + 50 * 2 / 3) / 101 / 2)
    assert average_precision([boxes(), boxes()], real) == 0.0


def test_average_precision_of_the_published_model(data_dir):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data_dir / "models/fastestdet/FastestDet.onnx", options)
    labels = read_labels(data_dir / "sets/coco128_train2017_labels.json")
    names = sorted(path.name for path in (data_dir / "sets/coco128_train2017").iterdir())
    steps = Preprocess(resize=(352, 352), channels="BGR", scale=1 / 255, layout="NCHW")
    images = decode_images([data_dir / "sets/coco128_train2017" / name for name in names], steps.size)
    rows = preprocess_rows(images, steps, "photographs")
    found = [decode(session.run(None, {"input.1": row[None]})[0][0]) for row in rows]
    assert average_precision(found, [labels[name] for name in names]) == pytest.approx(0.307, abs=0.001)
