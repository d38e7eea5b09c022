from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from canonical_cases import Graph, check, operators
from onnx import helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.ir import canonical
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.canonical_window import same_pads


def conv_block(graph: Graph, x: str, channels: int = 4, **attributes) -> str:
    return graph.node("Conv", x, graph.weight(channels, 3, 3, 3), kernel_shape=[3, 3], pads=[1] * 4, **attributes)


def batch_norm(graph: Graph, x: str, channels: int) -> str:
    parameters = [graph.positive(channels), graph.weight(channels), graph.weight(channels), graph.positive(channels)]
    return graph.node("BatchNormalization", x, *parameters, epsilon=1e-3)


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 17, 18, 21])
def test_batch_norm_folds_into_convolution_in_every_opset(opset: int):
    graph = Graph()
    y = graph.node("Relu", batch_norm(graph, conv_block(graph, "x"), 4))
    assert operators(check(graph.model({"x": [1, 3, 6, 5]}, [y], opset))) == ["Conv", "Relu"]


def test_batch_norm_folds_into_grouped_transposed_convolution():
    graph = Graph()
    up = graph.node("ConvTranspose", "x", graph.weight(4, 3, 2, 3), graph.weight(6), group=2, strides=[2, 1])
    assert operators(check(graph.model({"x": [1, 4, 5, 3]}, [batch_norm(graph, up, 6)]))) == ["ConvTranspose"]


def test_batch_norm_folds_into_gemm_and_one_dimensional_convolution():
    graph = Graph()
    conv = graph.node("Conv", "x", graph.weight(4, 3, 3))
    flat = graph.node("Flatten", batch_norm(graph, conv, 4))
    gemm = graph.node("Gemm", flat, graph.weight(20, 6))
    assert operators(check(graph.model({"x": [1, 3, 7]}, [batch_norm(graph, gemm, 6)]))) == ["Conv", "Flatten", "Gemm"]


def test_batch_norm_without_a_layer_becomes_mul_and_add():
    graph = Graph()
    y = batch_norm(graph, graph.node("Relu", "x"), 3)
    assert operators(check(graph.model({"x": [1, 3, 4, 4]}, [y]))) == ["Relu", "Mul", "Add"]


def test_batch_norm_after_a_shared_convolution_output_stays_apart():
    graph = Graph()
    conv = conv_block(graph, "x")
    y = graph.node("Add", batch_norm(graph, conv, 4), conv)
    assert operators(check(graph.model({"x": [1, 3, 4, 4]}, [y]))) == ["Conv", "Mul", "Add", "Add"]


def test_shared_weights_are_scaled_for_one_layer_only():
    graph = Graph()
    weight = graph.weight(3, 3, 1, 1)
    first = graph.node("Relu", batch_norm(graph, graph.node("Conv", "x", weight), 3))
    y = batch_norm(graph, graph.node("Conv", first, weight), 3)
    assert operators(check(graph.model({"x": [1, 3, 4, 4]}, [y]))) == ["Conv", "Relu", "Conv"]


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("constant_first", [False, True])
def test_per_channel_arithmetic_folds(op: str, shape: tuple[int, ...], constant_first: bool):
    graph = Graph()
    operands = [conv_block(graph, "x"), graph.positive(*shape)]
    y = graph.node(op, *(operands[::-1] if constant_first else operands))
    folds = not (op == "Div" and constant_first)
    assert operators(check(graph.model({"x": [1, 3, 5, 5]}, [y]))) == (["Conv"] if folds else ["Conv", "Div"])


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 4, 5, 5), (2, 1, 1, 1)])
def test_arithmetic_along_other_axes_stays(shape: tuple[int, ...]):
    graph = Graph()
    y = graph.node("Mul", conv_block(graph, "x"), graph.weight(*shape))
    assert operators(check(graph.model({"x": [1, 3, 5, 5]}, [y]))) == ["Conv", "Mul"]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (2, 1), (2, 5)])
def test_gemm_takes_its_normal_form(transposed: int, bias: tuple[int, ...] | None):
    graph = Graph()
    weight = graph.weight(5, 3) if transposed else graph.weight(3, 5)
    extra = [] if bias is None else [graph.weight(*bias)]
    y = graph.node("Gemm", "x", weight, *extra, alpha=0.5, beta=2.0, transA=1, transB=transposed)
    separate = ["Add"] if bias in ((2, 1), (2, 5)) else []
    assert operators(check(graph.model({"x": [3, 2]}, [y]))) == ["Transpose", "Gemm", *separate]


def test_gemm_of_two_inputs_keeps_its_meaning():
    graph = Graph()
    y = graph.node("Gemm", "a", "b", "c", alpha=0.5, beta=3.0, transA=1)
    assert "Gemm" in operators(check(graph.model({"a": [4, 2], "b": [4, 5], "c": [2, 5]}, [y])))


def test_matrix_product_with_bias_becomes_gemm_and_a_batched_one_stays():
    graph = Graph()
    flat = graph.node("Add", graph.node("MatMul", "x", graph.weight(6, 4)), graph.weight(4))
    batched = graph.node("Add", graph.node("MatMul", "z", graph.weight(6, 4)), graph.weight(4))
    assert operators(check(graph.model({"x": [2, 6], "z": [2, 3, 6]}, [flat, batched]))) == ["Gemm", "MatMul", "Add"]


def test_a_scale_folds_into_a_batched_product_and_a_shift_stays():
    graph = Graph()
    scaled = graph.node("Div", graph.node("MatMul", "x", graph.weight(6, 4)), graph.positive(4))
    y = graph.node("Sub", scaled, graph.weight(4))
    assert operators(check(graph.model({"x": [2, 3, 6]}, [y]))) == ["MatMul", "Sub"]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_padding_becomes_explicit(mode: str, stride: int):
    graph = Graph()
    window = {"auto_pad": mode, "strides": [stride, 1], "kernel_shape": [4, 3]}
    ends = [
        graph.node("Conv", "x", graph.weight(4, 3, 4, 3), **window),
        graph.node("ConvTranspose", "x", graph.weight(3, 2, 4, 3), **window),
        graph.node("MaxPool", "x", **window),
        graph.node("AveragePool", "x", **window),
    ]
    check(graph.model({"x": [1, 3, 9, 7]}, ends))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize(("taps", "stride", "dilation"), [(3, 1, 2), (2, 3, 1), (3, 2, 3), (1, 2, 1)])
def test_same_padding_keeps_the_ceiling_of_the_size(mode: str, size: int, taps: int, stride: int, dilation: int):
    begin, end = same_pads([size], [taps], [stride], [dilation], mode)
    assert 0 <= (end - begin if mode == "SAME_UPPER" else begin - end) <= 1
    length = (size + begin + end - (taps - 1) * dilation - 1) // stride + 1
    spare = begin + end > 0 and (size + begin + end - 1 - (taps - 1) * dilation - 1) // stride + 1 == length
    assert length == -(-size // stride)
    assert not spare


def test_transposed_convolution_with_a_given_output_shape():
    graph = Graph()
    y = graph.node("ConvTranspose", "x", graph.weight(3, 2, 3, 3), strides=[2, 2], output_shape=[10, 9])
    check(graph.model({"x": [1, 3, 5, 4]}, [y]))


@pytest.mark.parametrize("fill", [0.0, -np.inf, 1.0])
@pytest.mark.parametrize("before", ["Relu", "Neg"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "Conv"])
def test_padding_folds_only_where_it_is_exact(op: str, before: str, fill: float):
    graph = Graph()
    amounts = graph.constant(np.array([0, 0, 1, 0, 0, 0, 1, 2], np.int64))
    padded = graph.node("Pad", graph.node(before, "x"), amounts, graph.constant(np.float32(fill)))
    if op == "Conv":
        y = graph.node("Conv", padded, graph.weight(2, 3, 3, 3), pads=[1, 0, 0, 1])
    else:
        y = graph.node(op, padded, kernel_shape=[3, 3], strides=[2, 2])
    exact = {
        "Conv": fill == 0,
        "AveragePool": fill == 0,
        "MaxPool": fill == -np.inf or (fill == 0 and before == "Relu"),
    }
    if fill == -np.inf and op != "MaxPool":
        return
    assert ("Pad" not in operators(check(graph.model({"x": [1, 3, 6, 7]}, [y])))) == exact[op]


def test_shape_arithmetic_folds_and_dynamic_batch_is_one():
    graph = Graph()
    shape = graph.node("Shape", "x")
    batch = graph.node("Gather", shape, graph.constant(np.int64(0)))
    rest = graph.constant(np.array([-1], np.int64))
    target = graph.node("Concat", graph.node("Unsqueeze", batch, graph.constant(np.array([0]))), rest, axis=0)
    y = graph.node("Reshape", "x", target)
    model = check(graph.model({"x": ["n", 3, 4], "z": ["n", 2]}, [y]))
    assert operators(model) == ["Reshape"]
    assert [list(value.shape) for value in model.graph.inputs] == [[1, 3, 4], [1, 2]]


@pytest.mark.parametrize("truth", [True, False])
def test_a_constant_condition_leaves_one_branch(truth: bool):
    def branch(op: str, name: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3])
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [result])

    graph = Graph()
    y = graph.node("If", graph.constant(truth), then_branch=branch("Relu", "a"), else_branch=branch("Neg", "b"))
    assert operators(check(graph.model({"x": [2, 3]}, [y]))) == ["Relu" if truth else "Neg"]


def test_what_does_nothing_is_gone():
    graph = Graph()
    x = graph.node("Identity", "x")
    x = graph.node("Dropout", x, graph.constant(np.float32(0.4)))
    x = graph.node("Cast", x, to=onnx.TensorProto.FLOAT)
    x = graph.node("Transpose", graph.node("Transpose", x, perm=[0, 2, 1]), perm=[0, 2, 1])
    x = graph.node("Mul", x, graph.constant(np.float32(1)))
    twin = graph.node("Add", graph.node("Relu", x), graph.node("Relu", x))
    graph.node("Sigmoid", x)
    assert operators(check(graph.model({"x": [1, 3, 4]}, [twin]))) == ["Relu", "Add"]


def test_outputs_that_are_inputs_or_constants_keep_their_names():
    graph = Graph()
    same = graph.node("Identity", "x")
    fixed = graph.node("Add", graph.weight(2, 3), graph.weight(2, 3))
    twice = graph.node("Relu", "x")
    check(graph.model({"x": [2, 3]}, [same, fixed, twice]))


def test_an_output_and_its_copy_keep_their_names():
    graph = Graph()
    first = conv_block(graph, "x")
    copied = graph.node("Identity", first)
    model = graph.model({"x": [1, 3, 5, 5]}, [first, copied])
    check(model)
    canonical_model = canonicalize(ir.from_proto(model))
    assert [value.name for value in canonical_model.graph.outputs] == [first, copied]


def test_splitting_constants_folds():
    graph = Graph()
    first = graph.node("Split", graph.weight(4, 6), outputs=2, axis=0)
    second = graph.nodes[-1].output[1]
    y = graph.node("Gemm", graph.node("Gemm", "x", first, transB=1), second)
    assert operators(check(graph.model({"x": [1, 6]}, [y], 13))) == ["Gemm", "Gemm"]


def test_split_constants_that_are_outputs_keep_their_names():
    graph = Graph()
    first = graph.node("Split", graph.weight(4, 6), outputs=2)
    check(graph.model({"x": [1, 6]}, [first, graph.nodes[-1].output[1], graph.node("Relu", "x")], 13))


def test_recurrent_layers_are_left():
    graph = Graph()
    y = graph.node("LSTM", "x", graph.weight(1, 16, 3), graph.weight(1, 16, 4), graph.weight(1, 32), hidden_size=4)
    assert operators(check(graph.model({"x": [5, 1, 3]}, [y]))) == ["LSTM"]


def test_the_given_model_is_not_changed_and_the_result_is_the_same_twice():
    graph = Graph()
    y = batch_norm(graph, conv_block(graph, "x"), 4)
    model = ir.from_proto(graph.model({"x": ["n", 3, 4, 4]}, [y], 11))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    first, second = (ir.to_proto(canonicalize(model)).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_canonical_form_is_a_fixed_point():
    graph = Graph()
    x = graph.node("Relu", batch_norm(graph, conv_block(graph, "x"), 4))
    y = graph.node("Gemm", graph.node("Flatten", x), graph.weight(64, 3), graph.weight(3))
    once = canonicalize(ir.from_proto(graph.model({"x": [1, 3, 4, 4]}, [y])))
    once.graph[0].metadata_props["edgeprune.pattern"] = "1x16"
    twice = canonicalize(once)
    assert ir.to_proto(twice).SerializeToString(deterministic=True) == ir.to_proto(once).SerializeToString(
        deterministic=True
    )


def failure(proto: onnx.ModelProto) -> str:
    with pytest.raises(EdgepruneError) as caught:
        canonicalize(ir.from_proto(proto))
    return str(caught.value)


def test_a_branch_that_depends_on_an_input_is_refused():
    branches = "then_branch = a () => (float[2] p) { p = Relu(x) }, else_branch = b () => (float[2] q) { q = Neg(x) }"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x, bool t) => (float[2] y) '
        f"{{ [pick] y = If <{branches}> (t) }}"
    )
    assert failure(model) == (
        "operator If depends on values that are known only when the model runs [op-unsupported]\n"
        "  where: node 'pick' (If)\n"
        "  hint:  export the model for one fixed path, for example with its mode input as a constant"
    )


def test_a_result_whose_size_depends_on_data_is_refused():
    graph = Graph()
    y = graph.node("Cast", graph.node("NonZero", "x"), to=onnx.TensorProto.FLOAT)
    assert failure(graph.model({"x": [2, 3]}, [y])) == (
        "operator NonZero gives a result whose size depends on the data [op-unsupported]\n"
        "  where: node 'NonZero' (NonZero)\n"
        "  hint:  cut the model before it and do this step outside"
    )


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_broken_weights_are_named(value: float, word: str):
    graph = Graph()
    y = conv_block(graph, "x")
    weight = numpy_helper.to_array(graph.initializers[0]).copy()
    weight[0, 0, 0, 0] = value
    graph.initializers[0].CopyFrom(numpy_helper.from_array(weight, "kernel"))
    graph.nodes[0].input[1] = "kernel"
    assert failure(graph.model({"x": [1, 3, 4, 4]}, [y])) == (
        f"tensor 'kernel' holds {word} values [model-nan]\n"
        "  where: initializer 'kernel'\n"
        "  hint:  the training diverged or the export went wrong; export a sound checkpoint"
    )


def test_a_mask_of_minus_infinity_is_no_error():
    graph = Graph()
    mask = graph.constant(np.triu(np.full((3, 3), -np.inf, np.float32), 1))
    check(graph.model({"x": [3, 3]}, [graph.node("Softmax", graph.node("Add", "x", mask), axis=-1)]))


def test_a_huge_tensor_is_refused():
    graph = Graph()
    assert "[model-too-large]" in failure(graph.model({"x": [1 << 40, 3]}, [graph.node("Relu", "x")]))


def test_verification_names_the_step_that_broke_the_model(monkeypatch: pytest.MonkeyPatch):
    def break_everything(model: ir.Model) -> None:
        model.graph[0].op_type = "Nothing"

    monkeypatch.setattr(canonical, "_SIMPLIFICATION", (break_everything,))
    graph = Graph()
    model = ir.from_proto(graph.model({"x": [1, 3]}, [graph.node("Relu", "x")]))
    with pytest.raises(EdgepruneError, match="step break_everything left an invalid model") as caught:
        canonicalize(model, verify=True)
    assert caught.value.code == "pass-invalid"
