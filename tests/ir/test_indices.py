"""Which inputs hold indices, and how large they may be."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from edgeprune.data import random_samples
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.execute import Session
from edgeprune.ir.indices import index_limits
from edgeprune.ir.ports import input_specs

HEADER = '<ir_version: 8, opset_import: ["": 18]> '
CASES = {
    "one table": ("g (int64[1, 4] t) => (float[1, 4, 3] y) <float[7, 3] e> { y = Gather(e, t) }", {"t": 7}),
    "along another axis": (
        "g (int64[4] t, float[3, 5] x) => (float[3, 4] y) { y = Gather <axis = 1> (x, t) }",
        {"t": 5},
    ),
    "the smaller of two": (
        "g (int64[1, 4] t) => (float[1, 4, 3] y) <float[7, 3] e, float[5, 3] p> "
        "{ a = Gather(e, t) b = Gather(p, t) y = Add(a, b) }",
        {"t": 5},
    ),
    "moved and cast first": (
        "g (int32[4, 1] t) => (float[1, 4, 3] y) <float[7, 3] e> "
        "{ c = Cast <to = 7> (t) m = Transpose(c) y = Gather(e, m) }",
        {"t": 7},
    ),
    "computed with first": (
        "g (int64[1, 4] t) => (float[1, 4, 3] y) <float[7, 3] e> { n = Neg(t) y = Gather(e, n) }",
        {},
    ),
    "a mask beside it": (
        "g (int64[1, 4] t, int64[1, 4] m) => (float[1, 4, 3] y, float[1, 4] f) <float[7, 3] e> "
        "{ y = Gather(e, t) f = Cast <to = 1> (m) }",
        {"t": 7},
    ),
    "one-hot": (
        "g (int64[1, 4] t) => (float[1, 4, 6] y) <int64[1] d = {6}, float[2] v = {0, 1}> { y = OneHot(t, d, v) }",
        {"t": 6},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_limits(name: str):
    text, limits = CASES[name]
    model = ir.from_proto(onnx.parser.parse_model(HEADER + text))
    assert index_limits(model) == limits
    rows = random_samples(input_specs(model), 50, 0, limits)
    for spec in input_specs(model):
        array = rows.inputs[spec.name]
        assert array.dtype == spec.dtype
        if spec.name in limits:
            assert set(array.reshape(-1).tolist()) == set(range(limits[spec.name]))


def test_random_tokens_of_a_transformer_are_valid(data_dir):
    model = load_onnx(data_dir / "models/stories260K/stories260K_t64.onnx")
    limits = index_limits(model)
    assert limits == {"tokens": 512}
    rows = random_samples(input_specs(model), 4, 0, limits)
    assert rows.inputs["tokens"].max() > 400
    assert Session(model, 1).run(rows.row(0))["logits"].shape == (1, 64, 512)
