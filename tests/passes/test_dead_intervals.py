"""Bounds hold for everything that small quantized networks can compute, and are no wider than it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from exact_numbers import exact
from fixed_numbers import fixed
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_networks import Quantized

from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import is_quantized
from edgeprune.passes.intervals import propagate, remove_dead

EVERY = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), axis=-1).reshape(-1, 2)
"""All that two stored int8 numbers can be."""


def observed(model: ir.Model, data: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The least and the greatest of every value over the rows of `data`, by name."""
    watched = model.clone()
    known = {value.name for value in watched.graph.outputs}
    for node in watched.graph:
        quantized = node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.inputs[0].const_value is None
        if quantized and node.outputs[0].name not in known:
            watched.graph.outputs.append(node.outputs[0])
    results = Session(watched).run({"x": data})
    return {name: (array.min(axis=0), array.max(axis=0)) for name, array in results.items()}


def check_bounds(model: ir.Model, data: np.ndarray, **within: float) -> None:
    """The bounds of every value hold for all rows of `data`, and are no wider than `within` says of it."""
    bounds = propagate(model)
    seen = observed(model, data)
    for value in (each for node in model.graph for each in node.outputs if each.name in seen):
        name = str(value.name)
        least, most = seen[name]
        found = bounds.of(value)
        assert np.all(found.low[0] <= least), name
        assert np.all(found.high[0] >= most), name
        if name in within:
            assert np.all(least - found.low[0] <= within[name])
            assert np.all(found.high[0] - most <= within[name])


@settings(max_examples=6)
@given(st.integers(0, 1 << 30))
def test_one_layer_takes_all_that_its_bounds_allow(seed: int):
    """Exhaustive over two inputs."""
    generator = np.random.default_rng(seed)
    net = Quantized((len(EVERY), 2), scale=0.5, zero=int(generator.integers(-128, 128)))
    zero = int(generator.integers(-128, 128))
    result = net.gemm(net.data, generator.integers(-127, 128, size=(5, 2)), 60.0, zero)
    check_bounds(net.model(result), _all_of(net), **{result: 60.0})


@settings(max_examples=4)
@given(st.integers(0, 1 << 30), st.sampled_from([0, 1]))
def test_bounds_hold_through_layers(seed: int, pads: int):
    """Exhaustive over two channels: convolutions, sums, products, clamps, pools, movements."""
    generator = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return generator.integers(-127, 128, size=shape)

    net = Quantized((len(EVERY), 2, 1, 1), scale=0.5, zero=int(generator.integers(-128, 128)))
    bias = generator.integers(-9000, 9000, size=3)
    first = net.conv(net.data, weight(3, 2, 1, 1), bias, 40.0, -128, pads=[pads] * 4)
    second = net.conv(first, weight(3, 1, 1, 1), bias, 400.0, int(generator.integers(-9, 9)), group=3)
    added = net.stored(net.node("Add", [second, first]), 500.0, 3)
    taken = net.stored(net.node("Sub", [second, added]), 700.0, -3)
    factor = net.array(generator.normal(size=(1, 3, 1, 1)).astype(np.float32))
    scaled = net.stored(net.node("Mul", [taken, factor]), 800.0, 1)
    clipped = net.node("Clip", [scaled, net.array(np.float32(-900)), net.array(np.float32(4000))])
    most = net.stored(net.node("Max", [net.node("Min", [clipped, first]), second]), 700.0, 0)
    both = net.node("Concat", [most, net.node("Relu", [added])], axis=1)
    pooled = net.node("AveragePool", [both], kernel_shape=[2, 1], pads=[1, 0, 0, 0], count_include_pad=1)
    mean = net.stored(net.node("GlobalAveragePool", [pooled]), 300.0, 0)
    largest = net.stored(net.node("ReduceMax", [mean, net.array(np.array([1]))], keepdims=0), 301.0, 0)
    wider = net.node("Pad", [mean, net.array(np.array([0, 1, 0, 0, 0, 0, 0, 0]))])
    turned = net.node("Transpose", [wider], perm=[0, 2, 3, 1])
    last = net.stored(net.node("Slice", [turned, *(net.array(np.array([place])) for place in (0, 5, 3))]), 299.0, 7)
    check_bounds(net.model(last, largest), _all_of(net))


def _all_of(net: Quantized) -> np.ndarray:
    """Real inputs that are stored as everything that two int8 numbers can be."""
    scale, zero = net.input_grid
    return ((EVERY - zero) * scale).astype(np.float32).reshape(net.shape)


def test_an_input_that_is_not_stored_may_be_anything():
    net = Quantized((1, 2))
    bounds = propagate(net.model(net.node("Relu", ["x"])))
    assert (bounds.of(None).low, bounds.of(None).high) == (-np.inf, np.inf)
    model = net.model(net.node("Relu", ["x"]))
    found = propagate(model).of(model.graph.outputs[0])
    assert (found.low.item(), found.high.item()) == (0.0, np.inf)


MODELS = {
    "mlperf_tiny/vww_mbv1_025_int8.tflite": (7_489_664, 3_727_313),
    "mlperf_tiny/ic_resnet8_int8.tflite": (12_501_632, 12_501_632),
    "mlperf_tiny/kws_dscnn_int8.tflite": (2_656_768, 2_656_768),
    "coral/mobilenet_v1_0.25_128_quant.tflite": (13_570_304, 12_868_864),
    "import_edge/person_detect.tflite": (7_157_888, 7_077_246),
    "import_edge/keyword_scrambled.tflite": (15_936, 8_736),
    "microwakeword/okay_nabu.tflite": (24_096, 24_096),
}
"""Multiply-accumulates before and after."""
REORDERED = ("coral/mobilenet_v1_0.25_128_quant.tflite",)
"""ONNX Runtime adds what is left in another order; in exact sums nothing changes."""


@pytest.mark.parametrize("name", MODELS)
def test_real_models_give_the_same(data_dir: Path, name: str):
    model = load(data_dir / "models" / name)
    removal = remove_dead(model)
    assert is_quantized(model)
    assert (removal.macs_before, removal.macs_after) == MODELS[name]
    if not removal.changed:
        assert removal.model is model
        return
    before, after = (Session(each) for each in (model, removal.model))
    generator = np.random.default_rng(0)
    for turn in range(4):
        feed = {}
        for spec in before.specs:
            low, high = [(0, 1), (-1e7, 1e7), (0, 255), (-30, 30)][turn]
            feed[spec.name] = generator.uniform(low, high, size=spec.shape).astype(spec.dtype)
        if name in REORDERED:
            one, other = exact(model, feed), exact(removal.model, feed)
        else:
            one, other = before.run(feed), after.run(feed)
        assert all(np.array_equal(one[each], other[each]) for each in one)


def test_half_of_visual_wake_words_is_for_nothing(data_dir: Path):
    """Real photographs: ONNX Runtime's results, and LiteRT's reference of the file against integers of what is left."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = data_dir / "models/mlperf_tiny/vww_mbv1_025_int8.tflite"
    model = load(path)
    removal = remove_dead(model)
    assert removal.macs_after < 0.5 * removal.macs_before
    before, after = (Session(each) for each in (model, removal.model))
    reference = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    reference.allocate_tensors()
    given = reference.get_input_details()[0]
    dense = reference._get_ops_details()[-2]["outputs"][0]
    scale, zero = given["quantization"]
    images = np.load(data_dir / "sets/vww_coco_train2017_96.npz")["x"][::16].astype(np.float32) / 255
    for image in images:
        one, other = (next(iter(each.run({each.specs[0].name: image[None]}).values())) for each in (before, after))
        assert np.array_equal(one, other)
        reference.set_tensor(given["index"], np.clip(np.rint(image / scale) + zero, -128, 127).astype(np.int8)[None])
        reference.invoke()
        stored = fixed(removal.model, image[None], twice=True)
        last = next(node for node in removal.model.graph if node.op_type == "Gemm").outputs[0]
        quantized = next(use.node for use in last.uses()).outputs[0]
        assert np.array_equal(stored[str(quantized.name)], reference.get_tensor(dense))
