"""Small jobs that stand in for compiling and measuring, and models small enough to compile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune.sweep import steps
from edgeprune.sweep.grid import Job
from edgeprune.sweep.results import Row
from edgeprune.sweep.runner import Work

PAIR = threading.Barrier(2)
HELD = 0.05
DENSE = {"dense": True}


def row_of(job: Job, key: str, **facts: Any) -> Row:
    known = Row(key, job.model, job.target, "done", job.board, options=job.options)
    return msgspec.structs.replace(known, package=f"{key}.edge", worker=str(os.getpid()), **facts)


def make(job: Job, key: str, folder: str, scratch: str) -> Row:
    """Writes a package as the real one does; seed 13 fails, seed 99 takes its worker down."""
    if job.options.get("seed") == 13:
        return steps.failed(job, key, ValueError("thirteen"))
    if job.options.get("seed") == 99:
        os._exit(1)
    unfinished = Path(scratch) / key
    unfinished.write_text(job.model)
    os.replace(unfinished, Path(folder) / f"{key}.edge")
    return row_of(job, key)


def make_in_pairs(job: Job, key: str, folder: str, scratch: str) -> Row:
    """Returns only once another job is there too."""
    PAIR.wait(30)
    return make(job, key, folder, scratch)


def measure(job: Job, row: Row, folder: str) -> Row:
    """Holds the board for a moment."""
    began = time.time()
    time.sleep(HELD)
    return row_of(job, row.key, measured=(began, time.time()), latency_ms=1.0)


def make_and_measure(job: Job, key: str, folder: str, scratch: str) -> Row:
    return measure(job, make(job, key, folder, scratch), folder)


WORK = Work(make, measure, make_and_measure)
PAIRED = Work(make_in_pairs, measure, make_and_measure)


def model_files(folder: Path, names: tuple[str, ...]) -> list[str]:
    paths = [folder / f"{name}.onnx" for name in names]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


def tiny_network(path: Path, channels: int) -> Path:
    """A 3x3 convolution and a classifier on 3 x 8 x 8 inputs."""
    random = np.random.default_rng(channels)
    shapes: Mapping[str, tuple[int, ...]] = {"stem": (channels, 3, 3, 3), "head": (5, channels)}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], "stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "stem_relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["d"], "flatten"),
        helper.make_node("Gemm", ["d", "head"], ["scores"], "head_gemm", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(nodes, "tiny", [image], [scores], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
