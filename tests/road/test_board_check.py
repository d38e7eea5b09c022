from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.road.board_check import HALF_TOLERANCE, compare


def outputs(*values):
    return {"y": np.array([values], np.float32)}


def judged(ours, theirs, precision="fp32"):
    return compare(ours, theirs, precision, "the host", "shelf")


def test_equal_and_nearly_equal_outputs():
    assert judged(outputs(1, np.inf, np.nan), outputs(1, np.inf, np.nan)).as_dict() == {
        "equal": True,
        "exact": True,
        "max_difference": 0.0,
        "tolerance": 1e-4,
        "reference": "the host",
    }
    verdict = judged(outputs(1, 5000), outputs(1.00005, 5000.3))
    assert (verdict.exact, verdict.samples) == (False, 1)
    assert verdict.max_difference == pytest.approx(0.3, rel=1e-2)


def test_half_precision_is_a_share_of_the_largest_of_a_row():
    assert HALF_TOLERANCE == 0.03
    verdict = judged(outputs(1, -50), outputs(2.4, -51), "fp16")
    assert verdict.tolerance == HALF_TOLERANCE and verdict.max_difference == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("ours", "theirs", "precision", "off"),
    [
        (outputs(1, 2), outputs(1, 2.1), "fp32", "0.1"),
        (outputs(1, 2), outputs(1, 2.00001), "int8", "1e-05"),
        (outputs(1, 2), outputs(1, np.nan), "fp32", "nan"),
        (outputs(1, 2), outputs(1, np.inf), "fp32", "inf"),
        (outputs(1, 50), outputs(2.6, 50), "fp16", "1.6"),
        (outputs(1, np.inf), outputs(1.1, np.inf), "fp16", "0.1"),
    ],
)
def test_other_outputs_are_an_error(ours, theirs, precision, off):
    with pytest.raises(EdgepruneError) as caught:
        judged(ours, theirs, precision)
    assert caught.value.code == "board-outputs-differ"
    assert caught.value.what == f"outputs of board shelf are not the host's: row 0 of 'y' is off by {off}"
    assert caught.value.hint.startswith("compared with the host, ")


def test_the_row_that_is_off_is_named():
    ours = {"a": np.zeros((5, 2), np.int64), "b": np.zeros(5, bool)}
    theirs = {"a": ours["a"].copy(), "b": np.array([0, 0, 0, 1, 0], bool)}
    with pytest.raises(EdgepruneError) as caught:
        judged(ours, theirs)
    assert "row 3 of 'b' is off by 1" in caught.value.what
    assert judged(ours, ours).exact
