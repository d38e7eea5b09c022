from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs, output_names


def small_model(opset: int = 17, *, shape: list | None = None, listed: bool = False, seed: int = 0) -> onnx.ModelProto:
    """Conv, batch norm, Relu, pool, Gemm: 3x8x8 to 5 values; with `listed`, weights are graph inputs too."""
    random = np.random.default_rng(seed)

    def weight(name: str, *size: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.uniform(0.1, 1, size).astype(np.float32), name)

    weights = [weight("w", 4, 3, 3, 3), *(weight(name, 4) for name in "gbmv"), weight("fw", 5, 64), weight("fb", 5)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["n", 3, 8, 8])]
    if listed:
        inputs += [helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims) for tensor in weights]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    ir_version = 3 if opset < 9 else 8
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def same_as_runtime(path: Path, feed: dict[str, np.ndarray] | None = None, dimensions: dict | None = None) -> list[str]:
    """Load `path`, compare with ONNX Runtime on the file itself, and give the canonical operators."""
    model = load_onnx(path, dimensions)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    feed = feed or {spec.name: random.standard_normal(spec.shape).astype(spec.dtype) for spec in input_specs(model)}
    found = Session(model).run(feed)
    assert output_names(model) == [port.name for port in session.get_outputs()]
    for name, expected in zip(output_names(model), session.run(None, feed), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4 * max(1, np.abs(expected).max()))
    return [node.op_type for node in model.graph]


def failure(path: Path, dimensions: dict[str, int] | None = None) -> str:
    with pytest.raises(EdgepruneError) as caught:
        load_onnx(path, dimensions)
    return str(caught.value)


def test_opset_7_with_weights_as_inputs(tmp_path: Path):
    path = tmp_path / "old.onnx"
    onnx.save(small_model(7, listed=True), path)
    assert same_as_runtime(path) == ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"]
    assert [spec.name for spec in input_specs(load_onnx(path))] == ["x"]


@pytest.mark.parametrize("opset", [9, 12, 18, 22])
def test_dynamic_batch_is_fixed_at_one(tmp_path: Path, opset: int):
    path = tmp_path / "model.onnx"
    onnx.save(small_model(opset), path)
    same_as_runtime(path)
    assert input_specs(load_onnx(path))[0].shape == (1, 3, 8, 8)


def test_a_fixed_batch_stays(tmp_path: Path):
    onnx.save(small_model(shape=[2, 3, 8, 8]), tmp_path / "model.onnx")
    assert input_specs(load_onnx(tmp_path / "model.onnx"))[0].shape == (2, 3, 8, 8)


def test_external_data(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(small_model(), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    same_as_runtime(path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 100)
    assert failure(path) == (
        "the model's external data does not fit it [model-corrupt]\n"
        "  where: tensor 'w'\n"
        "  hint:  'weights.bin' has 100 bytes, the model reads 432 from 0"
    )
    (tmp_path / "weights.bin").unlink()
    assert failure(path) == (
        "cannot read 'weights.bin', where the model keeps weights: No such file or directory [model-missing]\n"
        "  where: tensor 'w'\n"
        "  hint:  keep the model and its data files in one folder"
    )


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "link.bin", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert failure(folder / "model.onnx") == (
        f"the model asks for data outside its own folder: '{location}' [model-unsafe]\n"
        "  where: tensor 'w'\n"
        "  hint:  only load models from people you trust; keep data files beside the model"
    )


def test_a_dynamic_height_is_refused_and_can_be_given(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(small_model(shape=["n", 3, "height", 8]), path)
    assert failure(path) == (
        "the model leaves open how large 'height' (axis 2 of input 'x') is [shape-dynamic]\n"
        "  where: input 'x'\n"
        "  hint:  give the size it is used with: --dimension height=SIZE "
        "(only the batch, the first axis, is fixed for you, at 1)"
    )
    assert input_specs(load_onnx(path, {"height": 8}))[0].shape == (1, 3, 8, 8)
    assert input_specs(load_onnx(path, {"x:2": 8}))[0].shape == (1, 3, 8, 8)
    assert input_specs(load_onnx(path, {"x:2": 8, "n": 2}))[0].shape == (2, 3, 8, 8)


def test_a_dimension_that_is_not_there(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(small_model(shape=["n", 3, "height", 8]), path)
    assert failure(path, {"heigth": 8}) == (
        "the model has no open dimension 'heigth' [dimension-unknown]\n"
        "  where: --dimension\n"
        "  hint:  did you mean height?"
    )
    onnx.save(small_model(shape=[1, 3, 8, 8]), path)
    assert failure(path, {"height": 8}).endswith("hint:  every input has a fixed shape: leave it out")


def test_an_axis_of_size_0_is_an_empty_input(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(small_model(shape=[1, 3, 0, 8]), path)
    assert failure(path) == (
        "axis 2 of input 'x' has size 0: the input holds no value [shape-empty]\n"
        "  where: input 'x', axis 2\n"
        "  hint:  export the model with the real size, or give it: --dimension x:2=SIZE"
    )
    assert input_specs(load_onnx(path, {"x:2": 8}))[0].shape == (1, 3, 8, 8)


def test_a_missing_file(tmp_path: Path):
    path = tmp_path / "none.onnx"
    assert failure(path) == f"there is no model file '{path}' [model-missing]\n  where: {path}\n  hint:  check the path"


@pytest.mark.parametrize("size", [0, 1, 40, 400, -1])
def test_a_truncated_file(tmp_path: Path, size: int):
    path = tmp_path / "cut.onnx"
    path.write_bytes(small_model().SerializeToString()[:size])
    text = failure(path)
    assert text.startswith(f"'cut.onnx' is not a readable ONNX model [model-corrupt]\n  where: {path}\n  hint:  ")
    assert text.endswith("fetch or export it again")


def test_an_operator_nobody_knows(tmp_path: Path):
    model = small_model()
    model.graph.node[2].op_type, model.graph.node[2].domain, model.graph.node[2].name = "Swish2", "my.ops", "odd"
    model.opset_import.add(domain="my.ops", version=1)
    path = tmp_path / "custom.onnx"
    path.write_bytes(model.SerializeToString())
    assert failure(path) == (
        "operator Swish2 of domain 'my.ops' is not supported [op-unsupported]\n"
        "  where: node 'odd' (Swish2)\n"
        "  hint:  only operators of the ONNX standard can be imported; export the model without custom operators"
    )


def test_functions_of_the_model_are_inlined(tmp_path: Path):
    model = small_model()
    model.graph.node[2].op_type, model.graph.node[2].domain = "Twice", "my.ops"
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Add", ["t", "t"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("my.ops", "Twice", ["a"], ["b"], body, opsets))
    model.opset_import.add(domain="my.ops", version=1)
    onnx.save(model, tmp_path / "model.onnx")
    assert "Add" in same_as_runtime(tmp_path / "model.onnx")


@pytest.mark.parametrize("opset", [6, 99])
def test_an_operator_set_out_of_range(tmp_path: Path, opset: int):
    model = small_model()
    model.opset_import[0].version = opset
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    newest = onnx.defs.onnx_opset_version()
    assert failure(path) == (
        f"the model uses operator set {opset}; 7 to {newest} can be read [opset-unsupported]\n"
        f"  where: {path}\n"
        "  hint:  export the model again with opset_version=20"
    )


def test_an_operator_that_came_later(tmp_path: Path):
    model = small_model(26)
    model.graph.node[2].op_type, model.graph.node[2].name = "CumProd", "act"
    model.graph.node[2].input.append("axis")
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "axis"))
    onnx.save(model, tmp_path / "model.onnx")
    assert failure(tmp_path / "model.onnx") == (
        "the model's operator set 26 cannot be brought to 20: operator CumProd of node 'act' needs opset 26 "
        "[opset-unsupported]\n"
        "  where: opset 26\n"
        "  hint:  export the model again with opset_version=20"
    )


def test_an_input_that_is_no_tensor(tmp_path: Path):
    model = small_model()
    model.graph.input.append(helper.make_tensor_value_info("label", TensorProto.STRING, [1]))
    onnx.save(model, tmp_path / "model.onnx")
    assert failure(tmp_path / "model.onnx") == (
        "input 'label' is not a tensor of numbers [dtype-unsupported]\n"
        "  where: input 'label'\n"
        "  hint:  only inputs with a numeric or boolean tensor type can be compiled"
    )


def test_an_output_without_a_shape(tmp_path: Path):
    model = small_model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    same_as_runtime(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("cifar_resnet/resnet20.onnx", None),
        ("squeezenet_dc/squeezenet1.0_deepcompressed.onnx", None),
        ("ultraface/version-RFB-320.onnx", None),
        ("fastestdet/FastestDet.onnx", None),
        ("silero/silero_vad_16k_op15.onnx", {"sequence": 576}),
        ("stories260K/stories260K_t64.onnx", None),
    ],
)
def test_real_models_compute_the_same(data_dir: Path, name: str, dimensions: dict | None):
    path = data_dir / "models" / name
    random = np.random.default_rng(5)
    feed = {}
    for spec in input_specs(load_onnx(path, dimensions)):
        if spec.dtype == "float32":
            feed[spec.name] = random.standard_normal(spec.shape).astype(np.float32)
        else:
            feed[spec.name] = random.integers(0, 512, spec.shape) if spec.shape else np.asarray(16000, spec.dtype)
    gone = {"BatchNormalization", "Shape", "If", "ConstantOfShape", "Identity"}
    assert not gone & set(same_as_runtime(path, feed, dimensions))


def test_an_unknown_attribute_is_named_with_its_node(tmp_path: Path):
    path = tmp_path / "model.onnx"
    model = small_model()
    model.graph.node[0].attribute.append(helper.make_attribute("foo", 3))
    path.write_bytes(model.SerializeToString())
    assert failure(path) == (
        "'model.onnx' is not a readable ONNX model [model-corrupt]\n"
        f"  where: {path}\n"
        "  hint:  Unrecognized attribute: foo for operator Conv "
        "Context: Bad node spec for node. Name: first OpType: Conv"
    )
