"""Ctrl-C while the real stages work: one line, exit code 130, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SCRIPT = """
import os, signal, sys, threading
import {module} as module
owner, name = {owner}, {name!r}
real = getattr(owner, name)
def interrupted(*positional, **named):
    setattr(owner, name, real)
    if {delay}:
        threading.Timer({delay}, os.killpg, (os.getpgrp(), signal.SIGINT)).start()
    else:
        os.killpg(os.getpgrp(), signal.SIGINT)
    return real(*positional, **named)
setattr(owner, name, interrupted)
from edgeprune.cli.main import main
sys.argv[0] = "edgeprune"
main()
"""

STAGES = {
    "training": ("edgeprune.passes.recover_optimiser", "module.RelativeAdam", "step", 0),
    "linking": ("edgeprune.toolchain", "module.subprocess", "run", 0.3),
    "writing": ("edgeprune.files", "module.os", "fsync", 0),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network, `net.onnx`, beside its rows and `card.toml`."""
    folder = tmp_path_factory.mktemp("network")
    random = np.random.default_rng(0)
    weights = {"stem": (16, 3, 3, 3), "body": (16, 16, 3, 3), "head": (10, 16)}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], "stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "stem_relu"),
        helper.make_node("Conv", ["b", "body"], ["c"], "body_conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "head"], ["scores"], "head_gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    np.savez(folder / "rows.npz", x=random.standard_normal((60, 3, 8, 8)).astype(np.float32))
    sections = {"train": "0:40", "validate": "40:50", "test": "50:"}
    text = "".join(f'[{name}]\nfile = "rows.npz"\nrows = "{rows}"\n' for name, rows in sections.items())
    (folder / "card.toml").write_text('metric = "fidelity"\n' + text)
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_in_any_stage_leaves_nothing(network, tmp_path, stage):
    module, owner, name, delay = STAGES[stage]
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    before = work / "out.edge"
    before.write_bytes(b"an earlier package")
    script = SCRIPT.format(module=module, owner=owner, name=name, delay=delay)
    asked = ("--sparsity", "0.5", "--pattern", "1x8", "--epochs", "1" if stage == "training" else "0")
    command = [sys.executable, "-c", script, "compile", str(network / "net.onnx"), "-d", str(network / "card.toml")]
    finished = subprocess.run(
        [*command, *asked, "-o", str(before)],
        env={**os.environ, "TMPDIR": str(scratch), "EDGEPRUNE_CACHE": "off"},
        capture_output=True,
        text=True,
        timeout=280,
        start_new_session=True,
    )
    assert finished.stderr == "error: interrupted, nothing was written [interrupted]\n"
    assert (finished.returncode, finished.stdout) == (130, "")
    assert before.read_bytes() == b"an earlier package"
    assert {path.name for path in work.iterdir()} <= {"out.edge", "out.edge.resume"}  # where the next run goes on
    assert {path.name for path in scratch.iterdir()} <= {".ses"}  # a file of ONNX Runtime itself
