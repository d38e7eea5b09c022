"""Several processes, each with a part of every batch, find the weights that one process finds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from recover_in_processes import METRICS, recovered

from edgeprune.passes.recover_processes import Processes

SCRIPT = Path(__file__).with_name("recover_in_processes.py")


def launched(folder: Path, count: int) -> list[dict[str, np.ndarray]]:
    """What each of `count` processes found; they are told of each other as torchrun and accelerate launch do it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": ""}
    started = []
    for rank in range(count):
        own = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        command = [sys.executable, str(SCRIPT), str(folder)]
        started.append(subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, complaint = process.communicate(timeout=240)
        assert process.returncode == 0, complaint
    return [dict(np.load(folder / f"process{rank}.npz")) for rank in range(count)]


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    together = launched(tmp_path, 2)
    for metric in METRICS:
        for name, array in recovered(metric, tmp_path).items():
            first, second = (found[f"{metric} {name}"] for found in together)
            np.testing.assert_array_equal(first, second)
            np.testing.assert_allclose(first, array, rtol=1e-5, atol=1e-5)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["process0.npz", "process1.npz"]


def test_one_process_is_everything() -> None:
    processes = Processes()
    tensors = {"a": torch.ones(2, 3)}
    assert processes.count == 1 and processes.first
    assert processes.totals(tensors) is tensors and processes.same(0.1) == 0.1
    np.testing.assert_array_equal(processes.part(np.arange(5)), np.arange(5))
