"""Fixes the shapes of a model's inputs: a dynamic batch becomes 1, other open dimensions get the sizes given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.canonical_shapes import check_size

_TENSOR_INPUTS = {
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL,
    ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64,
    ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64,
}  # fmt: skip


@dataclass(frozen=True)
class _Dimension:
    """One axis of an input; `size` is None where the model leaves it open."""

    value: ir.Value
    axis: int
    size: int | None
    symbol: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """What a user may call it, the handiest first."""
        place = f"{self.value.name}:{self.axis}"
        return (place,) if self.symbol is None else (self.symbol, place)

    def __str__(self) -> str:
        place = f"axis {self.axis} of input '{self.value.name}'"
        return place if self.symbol is None else f"'{self.symbol}' ({place})"


def fix_inputs(model: ir.Model, dimensions: Mapping[str, int]) -> None:
    """Give every input of `model` a fixed shape, in place.

    `dimensions` maps open axes, by symbol or as `input:axis`, to sizes. A first axis without a size is the batch,
    fixed at 1, and its symbol is 1 wherever it appears. Raises EdgepruneError (shape-dynamic, shape-empty,
    dimension-unknown, dtype-unsupported, model-too-large).
    """
    for value in model.graph.inputs:
        _check_type(value)
    axes = {id(value): list(_axes(value)) for value in model.graph.inputs}
    _check_names([axis for found in axes.values() for axis in found if not axis.size], dimensions)
    sizes = _batch_symbols(model.graph) | dict(dimensions)
    unknown: list[_Dimension] = []
    for value in model.graph.inputs:
        fixed = [_fixed_size(axis, sizes) for axis in axes[id(value)]]
        unknown += [axis for axis, size in zip(axes[id(value)], fixed, strict=True) if size is None]
        value.shape = ir.Shape([size or 1 for size in fixed])
        check_size(value)
    if unknown:
        raise _open_dimensions(unknown)


def forget_shapes(graph: ir.Graph) -> None:
    """Drop every stored shape but those of inputs and initializers: they may hold the old batch."""
    for node in graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def _batch_symbols(graph: ir.Graph) -> dict[str, int]:
    first = [value.shape[0] for value in graph.inputs if value.shape is not None and len(value.shape)]
    return {axis.value: 1 for axis in first if isinstance(axis, ir.SymbolicDim) and axis.value is not None}


def _check_type(value: ir.Value) -> None:
    if not isinstance(value.type, ir.TensorType) or value.dtype not in _TENSOR_INPUTS:
        raise EdgepruneError(
            "dtype-unsupported",
            f"input '{value.name}' is not a tensor of numbers",
            where=f"input '{value.name}'",
            hint="only inputs with a numeric or boolean tensor type can be compiled",
        )


def _axes(value: ir.Value) -> Iterator[_Dimension]:
    if value.shape is None:
        raise EdgepruneError(
            "shape-dynamic",
            f"input '{value.name}' has no shape",
            where=f"input '{value.name}'",
            hint="export the model with fixed input shapes",
        )
    for axis, size in enumerate(value.shape):
        known = size if isinstance(size, int) and size >= 0 else None
        yield _Dimension(value, axis, known, size.value if isinstance(size, ir.SymbolicDim) else None)


def _fixed_size(axis: _Dimension, sizes: Mapping[str, int]) -> int | None:
    if axis.size:
        return axis.size
    given = next((sizes[name] for name in reversed(axis.names) if name in sizes), None)
    if given is not None:
        return _positive(given, axis)
    if axis.axis == 0:
        return 1
    if axis.size is None:
        return None
    raise EdgepruneError(
        "shape-empty",
        f"axis {axis.axis} of input '{axis.value.name}' has size 0: the input holds no value",
        where=f"input '{axis.value.name}', axis {axis.axis}",
        hint=f"export the model with the real size, or give it: --dimension {axis.names[0]}=SIZE",
    )


def _positive(size: int, axis: _Dimension) -> int:
    if size < 1:
        what, hint = f"{size} is no size for {axis}", "give a whole number above 0"
        raise EdgepruneError("option-range", what, where="--dimension", hint=hint, exit_code=2)
    return size


def _check_names(free: list[_Dimension], dimensions: Mapping[str, int]) -> None:
    known = {name for axis in free for name in axis.names}
    for name in dimensions:
        if name not in known:
            hint = nearest(name, known) if known else "every input has a fixed shape: leave it out"
            what = f"the model has no open dimension '{name}'"
            raise EdgepruneError("dimension-unknown", what, where="--dimension", hint=hint, exit_code=2)


def _open_dimensions(unknown: list[_Dimension]) -> EdgepruneError:
    by_name = {axis.names[0]: axis for axis in unknown}
    wanted = " ".join(f"--dimension {name}=SIZE" for name in by_name)
    return EdgepruneError(
        "shape-dynamic",
        f"the model leaves open how large {' and '.join(str(axis) for axis in by_name.values())} is",
        where=", ".join(dict.fromkeys(f"input '{axis.value.name}'" for axis in unknown)),
        hint=f"give the size it is used with: {wanted} (only the batch, the first axis, is fixed for you, at 1)",
    )
