"""Fixes the shapes of a model's inputs: a dynamic batch becomes 1, every other dynamic axis is refused."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical_shapes import check_size

_TENSOR_INPUTS = {
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL,
    ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64,
    ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64,
}  # fmt: skip


def fix_inputs(model: ir.Model, dimensions: Mapping[str, int]) -> None:
    """Give every input of `model` a fixed shape, in place.

    `dimensions` maps the names of symbolic axes to sizes. A first axis without a size is the batch, fixed at 1,
    and its symbol is 1 wherever it appears. Raises EdgepruneError (shape-dynamic, dtype-unsupported, model-too-large).
    """
    sizes = _batch_symbols(model.graph) | dict(dimensions)
    for value in model.graph.inputs:
        if not isinstance(value.type, ir.TensorType) or value.dtype not in _TENSOR_INPUTS:
            raise EdgepruneError(
                "dtype-unsupported",
                f"input '{value.name}' is not a tensor of numbers",
                where=f"input '{value.name}'",
                hint="only inputs with a numeric or boolean tensor type can be compiled",
            )
        value.shape = ir.Shape(_fixed_shape(value, sizes))
        check_size(value)


def forget_shapes(graph: ir.Graph) -> None:
    """Drop every stored shape but those of inputs and initializers: they may hold the old batch."""
    for node in graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def _batch_symbols(graph: ir.Graph) -> dict[str, int]:
    first = [value.shape[0] for value in graph.inputs if value.shape is not None and len(value.shape)]
    return {axis.value: 1 for axis in first if isinstance(axis, ir.SymbolicDim) and axis.value is not None}


def _fixed_shape(value: ir.Value, sizes: Mapping[str, int]) -> list[int]:
    if value.shape is None:
        raise EdgepruneError(
            "shape-dynamic",
            f"input '{value.name}' has no shape",
            where=f"input '{value.name}'",
            hint="export the model with fixed input shapes",
        )
    return [_fixed_size(value, axis, size, sizes) for axis, size in enumerate(value.shape)]


def _fixed_size(value: ir.Value, axis: int, size: int | ir.SymbolicDim, sizes: Mapping[str, int]) -> int:
    symbol = size.value if isinstance(size, ir.SymbolicDim) else None
    fixed = sizes.get(symbol, 0) if symbol is not None else size if isinstance(size, int) else 0
    if fixed > 0:
        return fixed
    if axis == 0:
        return 1
    named = f" ('{symbol}')" if symbol is not None else ""
    raise EdgepruneError(
        "shape-dynamic",
        f"axis {axis}{named} of input '{value.name}' has no fixed size",
        where=f"input '{value.name}', axis {axis}",
        hint="only the batch (first axis) is fixed for you, at 1; fix the others when exporting, or with "
        f"`python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {value.name} --input_shape ...`",
    )
