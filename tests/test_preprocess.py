import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.data import Preprocess
from edgeprune.data.preprocess import preprocess_rows, resize_image
from edgeprune.errors import EdgepruneError


def by_hand(row, subtract, scale, mean, std, bgr, planar):
    """One row, value by value, in the order the cards promise."""
    height, width, channels = row.shape
    result = np.zeros((channels, height, width) if planar else row.shape)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                value = float(row[y, x, channels - 1 - c if bgr else c])
                value = ((value - subtract) * scale - mean[c]) / std[c]
                result[(c, y, x) if planar else (y, x, c)] = value
    return result


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    bgr=st.booleans(),
    planar=st.booleans(),
)
def test_steps_in_order(seed, size, bgr, planar):
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    mean, std = generator.normal(size=3).tolist(), generator.uniform(0.5, 2, 3).tolist()
    steps = Preprocess(
        channels="BGR" if bgr else None,
        subtract=127.0,
        scale=1 / 128,
        mean=mean,
        std=std,
        layout="NCHW" if planar else "NHWC",
    )
    given_rows = preprocess_rows(rows, steps, "here")
    wanted = np.stack([by_hand(row, 127.0, 1 / 128, mean, std, bgr, planar) for row in rows])
    assert given_rows.dtype == np.float32
    np.testing.assert_allclose(given_rows, wanted, rtol=1e-5, atol=1e-5)


def test_no_step_keeps_values_and_dtype():
    rows = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    given_rows = preprocess_rows(rows, Preprocess(), "here")
    assert given_rows.dtype == np.int8
    np.testing.assert_array_equal(given_rows, rows)


def test_shape_comes_before_layout():
    rows = np.arange(2 * 24).reshape(2, 24)
    given_rows = preprocess_rows(rows, Preprocess(shape=[3, 4, 2], layout="NCHW"), "here")
    np.testing.assert_array_equal(given_rows, rows.reshape(2, 3, 4, 2).transpose(0, 3, 1, 2))


def test_rows_without_channels_gain_one():
    rows = np.zeros((2, 5, 7), np.uint8)
    assert preprocess_rows(rows, Preprocess(layout="NCHW"), "here").shape == (2, 1, 5, 7)
    assert preprocess_rows(rows, Preprocess(layout="NHWC"), "here").shape == (2, 5, 7, 1)


def test_resize_is_height_then_width():
    rows = np.zeros((1, 8, 8, 3), np.uint8)
    assert preprocess_rows(rows, Preprocess(resize=(4, 6)), "here").shape == (1, 4, 6, 3)
    assert preprocess_rows(rows, Preprocess(resize=5), "here").shape == (1, 5, 5, 3)


def test_bilinear_enlargement_by_the_formula():
    row = np.array([[0.0, 100.0]], np.float32)
    positions = np.clip((np.arange(4) + 0.5) / 2 - 0.5, 0, 1)
    np.testing.assert_allclose(resize_image(row, (1, 4)), [100 * positions], atol=1e-4)


def test_resize_agrees_between_bytes_and_floats():
    image = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    as_bytes, as_floats = resize_image(image, (5, 20)), resize_image(image.astype(np.float32), (5, 20))
    np.testing.assert_allclose(as_bytes, as_floats, atol=1.01)


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((2, 10), Preprocess(layout="NCHW")),
        ((2, 4, 4, 1), Preprocess(channels="BGR")),
        ((2, 4, 4, 3), Preprocess(mean=[1.0, 2.0])),
        ((2, 10), Preprocess(shape=[3, 4])),
        ((2, 10), Preprocess(resize=4)),
    ],
)
def test_a_step_that_does_not_fit_is_named(shape, steps):
    with pytest.raises(EdgepruneError) as caught:
        preprocess_rows(np.zeros(shape, np.uint8), steps, "cards/x.toml [test]")
    assert caught.value.code == "data-shape"
    assert caught.value.where == "cards/x.toml [test]"
    assert caught.value.hint


def test_as_dict_holds_what_is_given():
    assert Preprocess(scale=0.5, layout="NCHW").as_dict() == {"scale": 0.5, "layout": "NCHW"}
    assert not Preprocess(label_offset=1).changes_values
