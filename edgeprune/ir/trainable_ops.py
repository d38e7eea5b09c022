"""The table of trainable ops: one row per ONNX op, its meaning as torch calls that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.ir.trainable_clip import clip
from edgeprune.ir.trainable_movement import MOVEMENT
from edgeprune.ir.trainable_node import Facts, Row, Tensor
from edgeprune.ir.trainable_quantization import QUANTIZATION
from edgeprune.ir.trainable_spatial import SPATIAL


def _gemm(facts: Facts, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if facts.get("transA", 0) else a
    weight = b if facts.get("transB", 0) else b.T
    alpha, beta = facts.get("alpha", 1.0), facts.get("beta", 1.0)
    if alpha == 1.0 and beta == 1.0 and c is not None and c.ndim == 1 and c.shape[0] == weight.shape[0]:
        return functional.linear(a, weight, c)
    product = alpha * functional.linear(a, weight)
    return product if c is None else product + beta * c


def _prelu(_: Facts, x: Tensor, slope: Tensor) -> Tensor:
    return x.clamp(min=0) + slope * x.clamp(max=0)


def _hard_sigmoid(facts: Facts, x: Tensor) -> Tensor:
    return (facts.get("alpha", 0.2) * x + facts.get("beta", 0.5)).clamp(0, 1)


def _selu(facts: Facts, x: Tensor) -> Tensor:
    return facts.get("gamma", 1.0507009873554805) * functional.elu(x, facts.get("alpha", 1.6732632423543772))


def _power(_: Facts, x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)


def _divide(_: Facts, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _modulo(facts: Facts, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if facts.get("fmod", 0) else torch.remainder(a, b)


def _folded(combine: Callable[[Tensor, Tensor], Tensor]) -> Row:
    """A row that combines any number of inputs, two at a time."""

    def row(_: Facts, *inputs: Tensor) -> Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = combine(result, other)
        return result

    return row


def _reduction(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Row:
    """A row that reduces over the axes in the attribute or the second input; all of them where there are none."""

    def row(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
        axes = facts.integers(1, "axes")
        if not axes:
            if facts.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.ndim))
        return reduce(x, axes, bool(facts.get("keepdims", 1)))

    return row


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _extreme(arg: Callable[..., Tensor]) -> Row:
    def row(facts: Facts, x: Tensor) -> Tensor:
        if facts.get("select_last_index", 0):
            raise facts.refuse("it selects the last index")
        return arg(x, dim=facts.get("axis", 0), keepdim=bool(facts.get("keepdims", 1)))

    return row


def _batch_norm(facts: Facts, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=facts.get("epsilon", 1e-5))


def _instance_norm(facts: Facts, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _grouped_norm(x, x.shape[1], scale, bias, facts.get("epsilon", 1e-5))


def _group_norm(facts: Facts, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = facts.get("num_groups")
    if scale.numel() == groups != x.shape[1]:
        scale, bias = (each.repeat_interleave(x.shape[1] // groups) for each in (scale, bias))
    return _grouped_norm(x, groups, scale, bias, facts.get("epsilon", 1e-5))


def _grouped_norm(x: Tensor, groups: int, scale: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(dim=-1, keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + epsilon)
    column = (1, -1) + (1,) * (x.ndim - 2)
    return normal.reshape(x.shape) * scale.reshape(column) + bias.reshape(column)


def _layer_norm(facts: Facts, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    if facts.outputs > 1:
        raise facts.refuse("it returns its statistics")
    axes = list(range(facts.get("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(dim=axes, keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean(dim=axes, keepdim=True) + facts.get("epsilon", 1e-5))
    return normal * scale if bias is None else normal * scale + bias


def _rms_norm(facts: Facts, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(facts.get("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(dim=axes, keepdim=True) + facts.get("epsilon", 1e-5)) * scale


def _local_response_norm(facts: Facts, x: Tensor) -> Tensor:
    size, scale = facts.get("size"), facts.get("alpha", 1e-4)
    before = (size - 1) // 2
    squares = (
        functional.pad(x.square().movedim(1, -1), (before, size - 1 - before))
        .unfold(-1, size, 1)
        .sum(-1)
        .movedim(-1, 1)
    )
    return x / (facts.get("bias", 1.0) + scale / size * squares) ** facts.get("beta", 0.75)


def _lp_norm(facts: Facts, x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, ord=facts.get("p", 2), dim=facts.get("axis", -1), keepdim=True)


def _cast(facts: Facts, x: Tensor) -> Tensor:
    return x.to(torch.from_numpy(np.zeros(0, ir.DataType(facts.get("to")).numpy())).dtype)


def _softmax(function: Callable[..., Tensor]) -> Row:
    return lambda facts, x: function(x, dim=facts.get("axis", -1))


def _elementwise(function: Callable[..., Tensor]) -> Row:
    return lambda _, *inputs: function(*inputs)


def _mean_of(inputs: Sequence[Tensor]) -> Tensor:
    return sum(inputs[1:], inputs[0]) / len(inputs)


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": functional.hardswish,
    "Mish": functional.mish, "Softplus": functional.softplus, "Softsign": functional.softsign, "Erf": torch.erf,
    "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal, "Abs": torch.abs,
    "Neg": torch.neg, "Sign": torch.sign,
    "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Atan": torch.atan, "Not": torch.logical_not,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor, "Equal": torch.eq, "Less": torch.lt,
    "LessOrEqual": torch.le, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Add": torch.add, "Sub": torch.sub,
    "Mul": torch.mul, "MatMul": torch.matmul, "Where": torch.where, "Identity": lambda x: x, "IsNaN": torch.isnan,
    "Asin": torch.asin, "Acos": torch.acos, "Sinh": torch.sinh, "Cosh": torch.cosh,
}  # fmt: skip

_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(dim=axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(dim=axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(dim=axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(dim=axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(dim=axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(dim=axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(dim=axes, keepdim=keep),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(dim=axes, keepdim=keep),
}

OPS: dict[str, Row] = {
    **SPATIAL,
    **MOVEMENT,
    **QUANTIZATION,
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "Gemm": _gemm,
    "Einsum": lambda facts, *inputs: torch.einsum(facts.get("equation"), *inputs),
    "Div": _divide,
    "Mod": _modulo,
    "Pow": _power,
    "Min": _folded(torch.minimum),
    "Max": _folded(torch.maximum),
    "Sum": _folded(torch.add),
    "Mean": lambda _, *inputs: _mean_of(inputs),
    "Clip": clip,
    "PRelu": _prelu,
    "LeakyRelu": lambda facts, x: functional.leaky_relu(x, facts.get("alpha", 0.01)),
    "Elu": lambda facts, x: functional.elu(x, facts.get("alpha", 1.0)),
    "Selu": _selu,
    "Celu": lambda facts, x: functional.celu(x, facts.get("alpha", 1.0)),
    "ThresholdedRelu": lambda facts, x: functional.threshold(x, facts.get("alpha", 1.0), 0.0),
    "HardSigmoid": _hard_sigmoid,
    "Gelu": lambda facts, x: functional.gelu(x, approximate=facts.get("approximate", "none")),
    "Swish": lambda facts, x: x * torch.sigmoid(facts.get("alpha", 1.0) * x),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "LRN": _local_response_norm,
    "LpNormalization": _lp_norm,
    "Cast": _cast,
    "Dropout": lambda _, x, *__: x,
}
"""Op type to row; what is missing here cannot be trained."""

_LIMITS = ("Round", "Floor", "Ceil", "Clip", "Min", "Max", "Mod", "Cast", "Dropout")
_ARITHMETIC = ("Div", "Pow", "Sum", "Mean")
_ACTIVATIONS = ("PRelu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSigmoid", "Gelu", "Swish")
ELEMENTWISE = frozenset({*_ELEMENTWISE, *_LIMITS, *_ARITHMETIC, *_ACTIVATIONS}) - {"MatMul"}
"""Ops that make each place of their result from the same place of their inputs, which are broadcast."""


_INDEPENDENT = (
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "BatchNormalization",
    "InstanceNormalization",
)


def independent(facts: Facts) -> bool:
    """Whether the op treats what lies along the first axis of its first input one by one, whatever the size is."""
    if facts.op in ("Pad", "Slice"):
        return facts.rank is not None and not _on_first_axis(facts, facts.rank)
    if facts.op == "Transpose":
        return bool((facts.get("perm") or (1,))[0] == 0)
    if facts.op == "Concat":
        return bool(facts.get("axis") > 0)
    return not facts.get("transA", 0) if facts.op == "Gemm" else facts.op in _INDEPENDENT


def _on_first_axis(facts: Facts, rank: int) -> bool:
    if facts.op == "Slice":
        axes = facts.integers(3) or range(len(facts.integers(1, "starts") or []))
        return any(axis % rank == 0 for axis in axes)
    pads = facts.integers(1, "pads") or []
    axes = facts.integers(3) or range(len(pads) // 2)
    each = zip(axes, pads, pads[len(pads) // 2 :], strict=False)
    return any(axis % rank == 0 and (before or after) for axis, before, after in each)
