"""Average pools of stored numbers that are read on another scale: no copy between, and the results of ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import onnx
import pytest
from library_runner import Context, build, load
from lowered import canonical
from qdq_networks import Network

from edgeprune.data import random_samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.lowering.lower import lower
from edgeprune.lowering.pool_grids import read_in_place
from edgeprune.lowering.quantization import without_quantization
from edgeprune.target import load_target

SCALE = 0.0625


def pooled(read: float, cells: tuple[int, int], shared: bool = False) -> onnx.ModelProto:
    """A mean of what a convolution stores, read with the scale `read`; `shared`, something else reads it so as well."""
    n = Network(seed=4)
    x = n.conv(n.quantized("x", SCALE), SCALE, (12, 5, 1, 1))
    x = n.quantized(x, SCALE, -128, read=read)
    mean = n.quantized(n.node("GlobalAveragePool", [x]), read, -128)
    return n.model({"x": [1, 5, *cells]}, [mean, n.node("Relu", [x])] if shared else [mean])


def factors(model: onnx.ModelProto) -> int:
    found = without_quantization(canonical(model), "pairs")
    read_in_place(found)
    return Counter(node.op_type for node in found.model.graph)["Mul"]


@pytest.mark.parametrize(("read", "shared", "left"), [(1.0, False, 0), (0.03125, False, 0), (1.0, True, 1)])
def test_factors_before_a_pool_go_where_nothing_else_reads_them(read: float, shared: bool, left: int) -> None:
    assert factors(pooled(read, (5, 7), shared)) == left


@pytest.mark.parametrize("dot", ["pairs", "bytes"])
@pytest.mark.parametrize("cells", [(5, 7), (4, 4)])
def test_pool_equals_onnx_runtime(cells: tuple[int, int], dot: str) -> None:
    model = canonical(pooled(1.0, cells))
    target = msgspec.structs.replace(load_target("host"), dot=dot)
    plan = lower(model, target)
    assert not any("rescale" in step.layer.name for step in plan.steps if getattr(step, "layer", None))
    feeds = random_samples(input_specs(model), 1, seed=3).row(0)
    feeds = {name: 3 * array for name, array in feeds.items()}
    got = Context(load(build(plan, target).so), plan.inputs, plan.outputs).run(feeds)
    for name, wanted in Session(model, 1).run(feeds).items():
        assert wanted.std() > 0
        np.testing.assert_array_equal(got[name].reshape(wanted.shape), wanted)
