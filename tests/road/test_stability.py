"""The same seed gives the same package, byte for byte: in processes that share nothing but the input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from edgeprune import flow
from edgeprune.options import Options
model, card, folder = sys.argv[1:]
sums = {}
for name, fields in json.load(sys.stdin).items():
    path = Path(folder) / "out.edge"
    flow.compile(model, data=card, output=path, options=Options(best_effort=True, **fields))
    sums[name] = hashlib.sha256(path.read_bytes()).hexdigest()
print(json.dumps(sums))
"""

ROADS = {
    "one thread": {"sparsity": 0.5, "pattern": "1x8", "epochs": 2},
    "two threads, another seed": {"sparsity": 0.5, "pattern": "1x8", "epochs": 2, "threads": 2, "seed": 1},
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network, `net.onnx`, beside its labelled rows and `card.toml`."""
    folder = tmp_path_factory.mktemp("network")
    random = np.random.default_rng(0)
    weights = {"stem": (16, 3, 3, 3), "left": (16, 16, 3, 3), "right": (16, 16, 1, 1), "head": (10, 16)}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], "stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "stem_relu"),
        helper.make_node("Conv", ["b", "left"], ["c"], "left_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "right"], ["d"], "right_conv"),
        helper.make_node("Add", ["c", "d"], ["e"], "join"),
        helper.make_node("Relu", ["e"], ["f"], "join_relu"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flatten"),
        helper.make_node("Gemm", ["h", "head"], ["scores"], "head_gemm", transB=1),
    ]
    initializers = [
        numpy_helper.from_array((random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    rows = random.standard_normal((120, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "rows.npz", x=rows, y=random.integers(0, 10, 120))
    sections = {"train": "0:80", "validate": "80:100", "test": "100:"}
    text = "".join(f'[{name}]\nfile = "rows.npz"\nrows = "{span}"\n' for name, span in sections.items())
    (folder / "card.toml").write_text('metric = "top1"\n' + text)
    return folder


def start(network: Path, folder: Path, hash_seed: int) -> subprocess.Popen[str]:
    """The roads in a process with its own hash seed, working folder, temporary folder and cache."""
    folder.mkdir()
    scratch = folder / "scratch"
    scratch.mkdir()
    own = {"PYTHONHASHSEED": str(hash_seed), "TMPDIR": str(scratch), "EDGEPRUNE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", SCRIPT, str(network / "net.onnx"), str(network / "card.toml"), str(folder)]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_same_seed_gives_the_same_package(network, tmp_path):
    processes = [start(network, tmp_path / f"run{seed}", seed) for seed in (1, 2)]
    first, second = (json.loads(process.communicate(json.dumps(ROADS), timeout=280)[0]) for process in processes)
    assert first == second
    assert len(set(first.values())) == len(ROADS)
