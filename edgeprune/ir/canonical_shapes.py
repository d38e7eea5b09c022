"""Gives every tensor its shape and type, and refuses what has none before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgeprune.errors import EdgepruneError

LARGEST_TENSOR = (1 << 31) - 1
_CONTROL_FLOW = ("If", "Loop", "Scan")
_DATA_DEPENDENT = ("NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit")


def infer_shapes(model: ir.Model) -> None:
    """Infer the shape and type of every value by the operators' own rules, in place; contradictions raise."""
    common.ShapeInferencePass(check_type=True, strict_mode=True, data_prop=False)(model)


def check_static(model: ir.Model) -> None:
    """Raise EdgepruneError (op-unsupported, shape-dynamic) unless every value is a tensor of known shape and type."""
    for node, value in _named_outputs(model):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise _unsupported(node, "makes a sequence or optional value", "only tensors can be compiled")
        if value.dtype is None or value.shape is None or not value.shape.is_static():
            raise EdgepruneError(
                "shape-dynamic",
                f"the shape of tensor '{value.name}' cannot be known before the model runs",
                where=f"node '{node.name}' ({node.op_type})",
                hint="export the model with fixed shapes",
            )
        check_size(value)


def check_size(value: ir.Value) -> None:
    """Raise EdgepruneError (model-too-large) where one tensor alone has more elements than a device could index."""
    if value.shape is not None and math.prod(value.shape.numpy()) > LARGEST_TENSOR:
        raise EdgepruneError(
            "model-too-large",
            f"tensor '{value.name}' has shape {list(value.shape.numpy())}",
            where=f"tensor '{value.name}'",
            hint=f"one tensor may hold {LARGEST_TENSOR} elements",
        )


def check_control_flow(model: ir.Model) -> None:
    """Raise EdgepruneError (op-unsupported) where the path or the sizes depend on what the inputs hold."""
    for node in model.graph.all_nodes():
        if node.domain:
            continue
        if node.op_type in _CONTROL_FLOW:
            raise _unsupported(
                node,
                "depends on values that are known only when the model runs",
                "export the model for one fixed path, for example with its mode input as a constant",
            )
        if node.op_type in _DATA_DEPENDENT:
            raise _unsupported(
                node,
                "gives a result whose size depends on the data",
                "cut the model before it and do this step outside",
            )


def fill_gaps(model: ir.Model) -> None:
    """Where inference left shapes open, run the model once on ONNX Runtime and take the shapes it gives, in place."""
    missing = [value for _, value in _named_outputs(model) if value.shape is None or not value.shape.is_static()]
    if not missing:
        return
    for value, shape in zip(missing, _observed_shapes(model, missing), strict=True):
        value.shape = ir.Shape(shape)


def _observed_shapes(model: ir.Model, values: list[ir.Value]) -> list[tuple[int, ...]]:
    import numpy as np
    import onnxruntime

    proto = ir.to_proto(model)
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in values if value.name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {
        value.name: np.zeros(value.shape.numpy(), value.dtype.numpy())
        for value in model.graph.inputs
        if value.shape is not None and value.dtype is not None
    }
    return [result.shape for result in session.run([value.name for value in values], feed)]


def _named_outputs(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Value]]:
    for node in model.graph:
        yield from ((node, value) for value in node.outputs if value.name)


def _unsupported(node: ir.Node, what: str, hint: str) -> EdgepruneError:
    return EdgepruneError(
        "op-unsupported", f"operator {node.op_type} {what}", where=f"node '{node.name}' ({node.op_type})", hint=hint
    )
