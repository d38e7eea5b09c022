"""The ports of the tiny library, rows for it and what they must become."""

from __future__ import annotations

import numpy as np
from tiny_library import tiny_inputs

from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.interface import Port

INPUTS = (Port("first", (1, 2, 3), "float32"), Port("second", (1, 2), "int64"))
OUTPUTS = (Port("total", (1, 2, 3), "float32"), Port("flag", (), "bool"))
PORTS = (INPUTS, OUTPUTS)


def tiny_rows(count: int) -> dict[str, np.ndarray]:
    given = [tiny_inputs(seed) for seed in range(count)]
    return {name: np.stack([row[name] for row in given]) for name in given[0]}


def check_run(runner: BoardRunner, count: int = 5) -> None:
    given = tiny_rows(count)
    outputs = runner.run_rows(given)
    np.testing.assert_array_equal(outputs["total"], given["first"] + given["second"][:, :, :1, None].astype("f4"))
    np.testing.assert_array_equal(outputs["flag"], given["second"][:, 0, 1] == 0)
