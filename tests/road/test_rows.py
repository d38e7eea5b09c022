"""What `run` reads and writes, against numpy's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.data.samples import InputSpec
from edgeprune.errors import EdgepruneError
from edgeprune.road.rows import read_rows, write_rows

SPECS = (InputSpec("a", (1, 3), "float32"), InputSpec("b", (1, 2), "float32"))


@pytest.mark.parametrize("name", ["y", "file", "allow_pickle", "args", "a/b:0", "x y", "ü"])
def test_any_output_name_comes_back(tmp_path: Path, name: str) -> None:
    outputs = {name: np.arange(6, dtype=np.float32).reshape(3, 2), "other": np.array([True, False])}
    write_rows(tmp_path / "out.npz", outputs)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as stored:
        assert set(stored.files) == set(outputs)
        for key, wanted in outputs.items():
            np.testing.assert_array_equal(stored[key], wanted)


@pytest.mark.parametrize(("counts", "code"), [((0, 0), "data-empty"), ((2, 3), "data-shape")])
def test_rows_that_cannot_be_run(tmp_path: Path, counts: tuple[int, int], code: str) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, a=np.zeros((counts[0], 3), np.float32), b=np.zeros((counts[1], 2), np.float32))
    with pytest.raises(EdgepruneError) as caught:
        read_rows(path, SPECS)
    assert (caught.value.code, caught.value.where) == (code, str(path))
    assert caught.value.hint


def test_rows_of_another_shape_are_told_without_a_card(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((3, 6), np.float32))
    with pytest.raises(EdgepruneError) as caught:
        read_rows(tmp_path / "in.npz", [InputSpec("image", (1, 2, 3), "float32")])
    assert (caught.value.code, caught.value.where) == ("data-shape", f"{tmp_path / 'in.npz'}: x")
    assert caught.value.hint == "store rows of shape [2, 3], as the model takes them: no card changes them here"
