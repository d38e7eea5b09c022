"""Run by the launcher of test_recover_processes: one of several processes that recover a model together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from recovery_cases import levels, network, samples, weights

from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover

METRICS = ("fidelity", "top1")


def recovered(metric: str, folder: Path) -> dict[str, np.ndarray]:
    """The weights that a recovery by `metric` finds, its checkpoint in `folder`."""
    original = network()
    labelled = metric == "top1"
    train, validate = samples(original, 99, 1, labelled), samples(original, 33, 2, labelled)
    pruned = Prune(levels("1x16", 0.25))(original)
    recover = Recover(2, metric, largest_batch=33, minutes=60.0, checkpoint=folder / "state")
    return weights(recover(pruned, original, train, validate))


def main(folder: Path) -> None:
    """Write what this process finds into `folder`."""
    from accelerate import PartialState

    found = {f"{metric} {name}": array for metric in METRICS for name, array in recovered(metric, folder).items()}
    np.savez(folder / f"process{PartialState().process_index}.npz", **found)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
