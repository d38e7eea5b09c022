"""Whatever the kernel families do not cover: a piece of the graph through TVM's ONNX front end."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from edgeprune.errors import EdgepruneError
from edgeprune.lowering.compile import tvm_target
from edgeprune.lowering.expand import expand
from edgeprune.lowering.legalize import legalizations
from edgeprune.lowering.nest import Nest, buffer_bytes, copy_bytes, split_nests, type_bytes
from edgeprune.lowering.schedule import schedule
from edgeprune.target import Target


@dataclass(frozen=True)
class RegionCall:
    """Run `symbol` over [0, units); `label` is the name that TVM gave the fused operation."""

    symbol: str
    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    units: int
    label: str


@dataclass(frozen=True)
class Region:
    """The lowered piece: pointer-argument TensorIR by symbol, calls in order, scratch sizes in bytes, constants.

    `inputs` and `outputs` give the argument name of each graph input and output, by its name in the graph.
    Every output has a buffer of its own (listed in `buffers`) that calls write; so a caller may rename it.
    """

    functions: dict[str, Any]
    calls: list[RegionCall]
    buffers: dict[str, int]
    constants: dict[str, np.ndarray]
    inputs: dict[str, str]
    outputs: dict[str, str]


def lower_region(model: onnx.ModelProto, target: Target, prefix: str) -> Region:
    """Lower a static-shape ONNX graph; every name in the result starts with `prefix`.

    Raises EdgepruneError (op-unsupported) with the op, the node and the stage where TVM has no way for one.
    """
    inputs = [value.name for value in model.graph.input]
    module = _import(model, target)
    try:
        return _Walk(module, target, prefix).run(inputs, list(model.graph.output))
    except NotImplementedError as error:
        raise _unsupported(model, str(error)) from error


def _import(model: onnx.ModelProto, target: Target) -> Any:
    try:
        with warnings.catch_warnings(), tvm_target(target):
            warnings.simplefilter("ignore")
            module = from_onnx(expand(model), keep_params_in_input=False)
            return tvm.transform.Sequential(_relax_passes())(module)
    except Exception as error:
        raise _unsupported(model, str(error)) from error


def _relax_passes() -> list[Any]:
    t = relax.transform
    return [
        t.DecomposeOpsForInference(),
        t.LegalizeOps(legalizations()),
        t.FoldConstant(),
        t.AnnotateTIROpPattern(),
        t.DeadCodeElimination(),
        t.FuseOps(),
        t.FuseTIR(),
        t.RewriteDataflowReshape(),
        t.DeadCodeElimination(),
    ]


def _unsupported(model: onnx.ModelProto, reason: str) -> EdgepruneError:
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason given"]
    nodes = list(model.graph.node)
    named = [node for node in nodes if re.search(rf"\b{node.op_type}\b", lines[-1])] or nodes
    ops = ", ".join(dict.fromkeys(node.op_type for node in named))
    names = ", ".join(node.name or node.output[0] for node in named[:3])
    return EdgepruneError(
        "op-unsupported",
        f"no way to lower {ops}: {lines[-1]}",
        where=f"node {names}, stage lowering",
        hint="replace the op in the model before it comes here",
    )


def _declared_bytes(value: onnx.ValueInfoProto) -> int | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    return (
        math.prod(axis.dim_value for axis in tensor.shape.dim)
        * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    )


Value = Any
"""The name of an argument, or a list of such for a tuple."""


class _Walk:
    """Turns the bindings of a Relax function into calls; `values` gives the argument names of each variable."""

    def __init__(self, module: Any, target: Target, prefix: str) -> None:
        self.module = module
        self.target = target
        self.prefix = prefix
        self.region = Region({}, [], {}, {}, {}, {})
        self.values: dict[Any, Value] = {}
        self.scheduled: dict[str, Any] = {}
        self.nests: dict[str, list[tuple[str, Nest]]] = {}
        self.input_sizes: dict[str, int] = {}

    def run(self, inputs: list[str], outputs: list[onnx.ValueInfoProto]) -> Region:
        main = self.module["main"]
        for name, parameter in zip(inputs, main.params, strict=True):
            argument = self._fresh("input")
            self.values[parameter] = self.region.inputs[name] = argument
            self.input_sizes[argument] = type_bytes(parameter.ty)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self._value(binding.value)
        result = self._value(main.body.body)
        results = result if isinstance(result, list) else [result]
        for output, value in zip(outputs, results, strict=True):
            self.region.outputs[output.name] = self._own(value)
            declared, size = _declared_bytes(output), self._size(self.region.outputs[output.name])
            if declared not in (None, size):
                raise NotImplementedError(f"TVM makes {size} bytes of output {output.name}, declared as {declared}")
        return self.region

    def _fresh(self, kind: str) -> str:
        region = self.region
        return f"{self.prefix}_{kind}{len(region.inputs) + len(region.buffers) + len(region.constants)}"

    def _value(self, value: Any) -> Value:
        if isinstance(value, relax.Var):
            return self.values[value]
        if isinstance(value, relax.Tuple):
            return [self._value(item) for item in value.fields]
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value)[value.index]
        if isinstance(value, tvm.ir.expr.GenericConst):
            return self._constant(value.value.numpy())
        if isinstance(value, tvm.ir.Call):
            return self._call(value)
        raise NotImplementedError(f"{type(value).__name__} in the imported graph")

    def _call(self, call: Any) -> Value:
        name = getattr(call.op, "name", str(call.op))
        if name == "relax.call_tir":
            return self._call_tir(call.args[0].name_hint, self._value(call.args[1]))
        if name in ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"):
            return self._value(call.args[0])
        raise NotImplementedError(f"{name} has no static TensorIR form")

    def _constant(self, array: np.ndarray) -> str:
        for name, other in self.region.constants.items():
            if other.dtype == array.dtype and other.shape == array.shape and other.tobytes() == array.tobytes():
                return name
        name = self._fresh("constant")
        self.region.constants[name] = array
        return name

    def _buffer(self, size: int) -> str:
        name = self._fresh("buffer")
        self.region.buffers[name] = size
        return name

    def _call_tir(self, name: str, arguments: Value) -> Value:
        func = self._scheduled(name)
        outputs = [self._buffer(buffer_bytes(buffer)) for buffer in func.params[len(arguments) :]]
        names = dict(zip(func.params, [*arguments, *outputs], strict=True))
        for symbol, nest in self.nests[name]:
            for buffer in nest.operands:
                if buffer not in names:
                    names[buffer] = self._buffer(buffer_bytes(buffer))
            self._emit(symbol, nest, names, name)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def _scheduled(self, name: str) -> Any:
        func = self.scheduled.get(name)
        if func is None:
            func = self.scheduled[name] = schedule(self.module[name])
            self.nests[name] = [(self._define(name, nest), nest) for nest in split_nests(func)]
        return func

    def _define(self, name: str, nest: Nest) -> str:
        symbol = f"{self.prefix}_{len(self.region.functions)}_{re.sub(r'[^0-9A-Za-z_]', '_', name)}"
        self.region.functions[symbol] = nest.func
        return symbol

    def _emit(self, symbol: str, nest: Nest, names: dict[Any, str], label: str) -> None:
        arguments = tuple(names[buffer] for buffer in nest.operands)
        writes = tuple(names[buffer] for buffer in nest.writes)
        self.region.calls.append(RegionCall(symbol, arguments, writes, nest.units, str(label)))

    def _own(self, value: Value) -> str:
        """The value in a buffer that is this output's alone."""
        if not isinstance(value, str):
            raise NotImplementedError("a tuple among the outputs")
        if value in self.region.buffers and value not in self.region.outputs.values():
            return value
        size = self._size(value)
        symbol = f"{self.prefix}_copy{size}"
        self.region.functions[symbol] = copy_bytes(size)
        copy = self._buffer(size)
        self.region.calls.append(RegionCall(symbol, (value, copy), (copy,), 1, "copy"))
        return copy

    def _size(self, name: str) -> int:
        if name in self.region.buffers:
            return self.region.buffers[name]
        if name in self.region.constants:
            return self.region.constants[name].nbytes
        return self.input_sizes[name]
