"""A model as a torch module, so that whatever was imported can be trained, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs, static_shape
from edgeprune.ir.trainable_node import Facts, Row, Tensor
from edgeprune.ir.trainable_ops import OPS
from edgeprune.ir.trainable_quantization import TOGETHER, on_grid, pairs_of
from edgeprune.ir.trainable_stored import dequantizers, master_of, real_of, stored_of

_TRAINED: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "Add": (0, 1),
    "Mul": (0, 1),
    "PRelu": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
}
"""Which inputs of an op are trained where they are constants."""
_ARITHMETIC = ("Add", "Mul", "MatMul")
"""Ops whose constants of one element are part of a formula."""


After = Callable[[str, Tensor], Tensor]
"""Called as after(output name, [rows, channels, ...]) with the result of a convolution; gives what replaces it."""


@dataclass(frozen=True)
class _Step:
    """One node, or a QuantizeLinear with what reads it; `together`: the row takes all rows of a batch at once."""

    row: Row
    facts: Facts
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    last_uses: tuple[str, ...]
    together: bool = False


class TrainableModel(torch.nn.Module):
    """Runs a canonical model on batches although its graph is fixed at batch 1.

    The graph describes one row; torch.vmap carries each op over the rows of a batch, so shapes that the graph spells
    out (a Reshape to [1, -1]) stay right. Only a convolution sees its rows together, as one larger batch. `weights`
    are the trained parameters by the names of their initializers. Weights that are stored as integers are trained as
    float32 numbers, of which every forward takes the nearest that the integers can stand for; what is quantized on
    its way is rounded as well, and gradients pass straight through.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self._specs = input_specs(model)
        self._outputs = [(str(value.name), static_shape(value)[:1] == (1,)) for value in model.graph.outputs]
        trained = {str(value.name) for value in _trained_values(model)}
        self._trained_names: list[str] = []
        self._fixed_names: list[str] = []
        self._trained = torch.nn.ParameterList()
        stored = dequantizers(model)
        for name, value in model.graph.initializers.items():
            if value.const_value is None:
                raise EdgepruneError("model-corrupt", f"initializer '{name}' has no value", where=f"tensor '{name}'")
            is_trained = str(name) in trained
            array = real_of(stored[name]) if is_trained and name in stored else value.const_value.numpy()
            self._hold(str(name), _tensor(array), is_trained)
        self._steps = list(_steps(model, {node for name, node in stored.items() if name in trained}))

    def _hold(self, name: str, tensor: Tensor, trained: bool) -> None:
        if trained:
            self._trained_names.append(name)
            self._trained.append(torch.nn.Parameter(_channels_last(tensor)))
        else:
            self.register_buffer(f"fixed_{len(self._fixed_names)}", tensor)
            self._fixed_names.append(name)

    @property
    def weights(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters by the names of their initializers, in the shapes ONNX gives them."""
        return dict(zip(self._trained_names, self._trained, strict=True))

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor] | None = None,
        after: After | None = None,
        also: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Outputs by name, rows first, from inputs by name, rows first and without the graph's own batch axis of 1.

        `weights` replaces constants by name for this call (masked or averaged ones, say). `after` may change what
        each convolution gives. An output whose first axis in the graph is not 1 keeps all its axes after the rows.
        The values named in `also` are given too, in the shapes of the graph after the rows.
        """
        values: dict[str, Tensor] = {name: getattr(self, f"fixed_{i}") for i, name in enumerate(self._fixed_names)}
        values.update(self.weights if weights is None else {**self.weights, **weights})
        batched = {spec.name: _rows(inputs[spec.name], spec.shape) for spec in self._specs}
        watched: dict[str, Tensor] = {}
        for step in self._steps:
            results = _run(step, values, batched, after)
            target = batched if any(name in batched for name in step.inputs) else values
            target.update(zip(step.outputs, results, strict=False))
            watched.update((name, target[name]) for name in step.outputs if name in also)
            for name in step.last_uses:
                batched.pop(name, None)
        count = len(next(iter(inputs.values())))
        outputs = {name: self._result(name, leading, values, batched, count) for name, leading in self._outputs}
        return {**watched, **outputs}

    def _result(
        self, name: str, leading: bool, values: dict[str, Tensor], batched: dict[str, Tensor], count: int
    ) -> Tensor:
        tensor = batched[name] if name in batched else values[name].expand(count, *values[name].shape)
        return tensor.squeeze(1) if leading else tensor


def _run(step: _Step, values: dict[str, Tensor], batched: dict[str, Tensor], after: After | None) -> Sequence[Tensor]:
    """The outputs of one step, rows first where any of its inputs is."""
    tensors = [None if name is None else batched.get(name, values.get(name)) for name in step.inputs]
    carried = [None if name is None or name not in batched else 0 for name in step.inputs]
    image = tensors[0]
    if step.facts.op == "Conv" and image is not None and carried[0] == 0 and not any(c == 0 for c in carried[1:]):
        result = step.row(step.facts, image.flatten(0, 1), *tensors[1:])
        assert isinstance(result, Tensor)
        result = result if after is None else after(step.outputs[0], result)
        return [result.unflatten(0, image.shape[:2])]
    if not step.together and any(axis == 0 for axis in carried):
        given = [tensor for tensor in tensors if tensor is not None]
        axes = tuple(axis for axis, tensor in zip(carried, tensors, strict=True) if tensor is not None)

        def row(*present: Tensor) -> Tensor | tuple[Tensor, ...]:
            remaining = iter(present)
            return step.row(step.facts, *(None if tensor is None else next(remaining) for tensor in tensors))

        found = torch.vmap(row, in_dims=axes)(*given)
    else:
        found = step.row(step.facts, *tensors)
    return found if isinstance(found, tuple) else (found,)


def to_torch(model: ir.Model) -> TrainableModel:
    """The module that computes what the canonical `model` computes.

    Raises EdgepruneError (op-untrainable) where a node's op has no row in the table.
    """
    return TrainableModel(model)


def write_back(module: TrainableModel, model: ir.Model, weights: Mapping[str, Tensor] | None = None) -> ir.Model:
    """A copy of `model` with the parameters of `module`, or with `weights` by name instead of them.

    What was stored as integers is again, at the scale that `model` holds for it or that `weights` name.
    """
    result = copy_model(model)
    stored = dequantizers(result)
    given: Mapping[str, Tensor] = module.weights if weights is None else weights
    for name, tensor in given.items():
        value = result.graph.initializers[name]
        if name in stored:
            scale = stored[name].inputs[1]
            array = stored_of(stored[name], tensor, None if scale is None else given.get(str(scale.name)))
        else:
            array = np.ascontiguousarray(tensor.detach().cpu().contiguous().numpy())
        dtype = array.dtype if value.const_value is None else value.const_value.dtype.numpy()
        value.const_value = ir.tensor(array.astype(dtype), name=name)
    return result


def _rows(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    rows = tensor.reshape(tensor.shape[0], *shape)
    if len(shape) == 4 and shape[0] == 1:
        return rows.squeeze(1).contiguous(memory_format=torch.channels_last).unsqueeze(1)
    return rows


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.isbuiltin != 1:
        array = array.astype(np.int32 if ir.DataType.from_numpy(array.dtype).is_integer() else np.float32)
    return torch.from_numpy(np.array(array))


def _trained_values(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        for index in _TRAINED.get(node.op_type, ()):
            read = node.inputs[index] if index < len(node.inputs) else None
            value = master_of(read)
            constant = None if value is None else value.const_value
            if value is None or constant is None or not (value is not read or constant.dtype.is_floating_point()):
                continue
            if constant.size > 1 or node.op_type not in _ARITHMETIC:
                yield value


def _steps(model: ir.Model, masters: Collection[ir.Node]) -> Iterator[_Step]:
    """The steps of `model`; `masters` are the nodes that read float32 weights in place of integers."""
    nodes = list(model.graph)
    pairs = pairs_of(nodes)
    undone = {reader for readers in pairs.values() for reader in readers}
    kept = {value.name for value in (*model.graph.outputs, *model.graph.initializers.values())}
    last_use = {value.name: index for index, node in enumerate(nodes) for value in node.inputs if value is not None}
    for index, node in enumerate(nodes):
        if node in undone:
            continue
        facts = Facts(node)
        row, ends = _row(facts, node, masters), pairs.get(node, [node])
        if node in pairs:
            row = on_grid(facts, copies=len(ends))
        inputs = tuple(None if value is None else str(value.name) for value in node.inputs)
        outputs = tuple(str(value.name) for end in ends for value in end.outputs)
        ended = {name for name in inputs if name is not None and last_use[name] == index and name not in kept}
        yield _Step(row, facts, inputs, outputs, tuple(sorted(ended)), node.op_type in TOGETHER)


def _row(facts: Facts, node: ir.Node, masters: Collection[ir.Node]) -> Row:
    if node in masters:
        assert node.inputs[0] is not None and node.inputs[0].const_value is not None
        return on_grid(facts, node.inputs[0].const_value.numpy())
    row = OPS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if row is None:
        raise facts.refuse("there is no row for it in the table of trainable ops")
    return row
