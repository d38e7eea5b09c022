from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.data import InputSpec
from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs, load_ir, output_names, save_ir

TEXT = """<ir_version: 8, opset_import: ["": 18]>
g (float[1, 3] x, int64 mode) => (float[1, 3] y, int64 m) <float[3] w = {1, 2, 3}> {
  [scale] y = Mul(x, w)  m = Neg(mode)
}"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def content(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def test_ports(model: ir.Model):
    assert input_specs(model) == [InputSpec("x", (1, 3), "float32"), InputSpec("mode", (), "int64")]
    assert output_names(model) == ["y", "m"]


def test_a_dynamic_port_is_an_error():
    dynamic = ir.from_proto(onnx.parser.parse_model(TEXT.replace("float[1, 3] x", "float[n, 3] x")))
    with pytest.raises(EdgepruneError) as caught:
        input_specs(dynamic)
    assert str(caught.value) == "tensor 'x' has no fixed shape [shape-dynamic]\n  where: tensor 'x'"


def test_saving_and_loading_keeps_everything(model: ir.Model, tmp_path: Path):
    model.graph[0].metadata_props["edgeprune.pattern"] = "1x16"
    save_ir(model, tmp_path / "model.onnx")
    assert content(load_ir(tmp_path / "model.onnx")) == content(model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_saving_where_nothing_can_be_written(model: ir.Model, tmp_path: Path):
    target = tmp_path / "missing" / "model.onnx"
    with pytest.raises(EdgepruneError) as caught:
        save_ir(model, target)
    assert str(caught.value) == (
        f"cannot write '{target}': No such file or directory [output-unwritable]\n"
        f"  where: {target}\n"
        "  hint:  check the folder, its permissions and the free space"
    )


def test_loading_what_is_missing_or_broken(tmp_path: Path):
    with pytest.raises(EdgepruneError, match="there is no model file") as caught:
        load_ir(tmp_path / "none.onnx")
    assert caught.value.code == "model-missing"
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(EdgepruneError, match=r"'bad.onnx' is not a readable ONNX model") as caught:
        load_ir(tmp_path / "bad.onnx")
    assert caught.value.code == "model-corrupt"


def test_a_copy_can_be_changed_freely(model: ir.Model):
    before = content(model)
    copy = copy_model(model)
    assert content(copy) == before
    weight = copy.graph.initializers["w"]
    weight.const_value = ir.tensor(np.zeros(3, np.float32), name="w")
    weight.shape = ir.Shape([3])
    copy.graph[0].metadata_props["edgeprune.pattern"] = "1x16"
    copy.graph[0].attributes.add(ir.AttrInt64("axis", 1))
    copy.graph.inputs[0].shape = ir.Shape([1, 3])
    copy.graph.remove(copy.graph[1])
    copy.metadata_props["note"] = "changed"
    assert content(model) == before
