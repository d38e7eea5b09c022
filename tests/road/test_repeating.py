from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.options import Options
from edgeprune.road.repeating import repeat_road

ACCURACY = {3: 0.91, 4: 0.87, 5: 0.95, 6: 0.89}
VALIDATE = {3: 0.5, 4: 0.7, 5: 0.7, 6: 0.6}


@dataclass
class Road:
    """A road whose accuracy is listed; seeds in `missed` miss their limit and write nothing."""

    missed: tuple[int, ...] = ()
    latency: Any = lambda path: 1.5

    def __call__(self, path: Path, options: Options) -> Any:
        if options.seed not in self.missed:
            path.write_text(str(options.seed))
        accuracy = {"metric": "top1", "before": 0.9, "after": ACCURACY[options.seed], "samples": 10}
        inspection = {"accuracy": accuracy, "weights": 100, "nonzero_weights": 25, "macs": 7, "total_bytes": 80}
        return SimpleNamespace(met=options.seed not in self.missed, shortfall="", inspection=inspection)

    def repeat(self, folder: Path, metric: str = "top1", validate: Any = lambda path: VALIDATE[int(path.read_text())]):
        return repeat_road(
            self, Options(seed=3), len(ACCURACY), folder, validate=validate, latency=self.latency, metric=metric
        )


def test_mean_and_spread_are_those_of_numpy(tmp_path):
    found = Road().repeat(tmp_path)
    column = np.array(list(ACCURACY.values()))
    assert [repeat.seed for repeat in found.all] == [3, 4, 5, 6]
    assert found.mean["accuracy_after"] == pytest.approx(column.mean())
    assert found.spread["accuracy_after"] == pytest.approx(column.std(ddof=1))
    assert (found.mean["sparsity"], found.spread["sparsity"]) == (0.75, 0)
    assert set(found.mean) == {
        *("accuracy_before", "accuracy_after", "sparsity", "macs", "total_bytes", "validate", "latency_ms")
    }


def test_validate_rows_choose_and_the_first_of_equals_is_kept(tmp_path):
    found = Road().repeat(tmp_path)
    assert found.kept.seed == 4
    assert found.kept.path.read_text() == "4"


def test_lower_is_better_for_an_error(tmp_path):
    assert Road().repeat(tmp_path, metric="mse").kept.seed == 3


def test_a_seed_within_its_limits_goes_before_a_better_one_that_is_not(tmp_path):
    found = Road(missed=(4, 5)).repeat(tmp_path)
    assert found.kept.seed == 6
    assert "validate" not in found.mean


def test_the_first_seed_is_kept_where_nothing_tells_them_apart(tmp_path):
    assert Road(missed=tuple(ACCURACY)).repeat(tmp_path).kept.seed == 3
    assert Road().repeat(tmp_path, validate=lambda path: None).kept.seed == 3


def test_a_latency_that_is_not_known_has_no_mean(tmp_path):
    assert "latency_ms" not in Road(latency=lambda path: None).repeat(tmp_path).mean
