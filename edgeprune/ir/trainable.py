"""A model as a torch module, so that whatever was imported can be trained, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs, static_shape
from edgeprune.ir.trainable_node import Tensor
from edgeprune.ir.trainable_steps import After, Rows, Step, planned, run, steps_of
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


class TrainableModel(torch.nn.Module):
    """Runs a canonical model on batches although its graph is fixed at batch 1.

    The graph describes one row. Ops that treat rows one by one anyway take all of a batch at once; torch.vmap carries
    the others over the rows, so shapes that the graph spells out (a Reshape to [1, -1]) stay right. `weights` are the
    trained parameters by the names of their initializers. Weights that are stored as integers are trained as
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
        stored = dequantizers(model)
        for name, value in model.graph.initializers.items():
            if value.const_value is None:
                raise EdgepruneError("model-corrupt", f"initializer '{name}' has no value", where=f"tensor '{name}'")
            is_trained = str(name) in trained
            array = real_of(stored[name]) if is_trained and name in stored else value.const_value.numpy()
            self._hold(str(name), _tensor(array), is_trained)
        self._steps = list(steps_of(model, {node for name, node in stored.items() if name in trained}))
        self._plans: dict[frozenset[str], list[Step]] = {}

    def _hold(self, name: str, tensor: Tensor, trained: bool) -> None:
        names = self._trained_names if trained else self._fixed_names
        if trained:
            self.register_parameter(f"trained_{len(names)}", torch.nn.Parameter(_channels_last(tensor)))
        else:
            self.register_buffer(f"fixed_{len(names)}", tensor)
        names.append(name)

    @property
    def weights(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters by the names of their initializers, in the shapes ONNX gives them."""
        return dict(zip(self._trained_names, self.parameters(), strict=True))

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
        constants: dict[str, Tensor] = dict(zip(self._fixed_names, self.buffers(), strict=True))
        constants.update(self.weights if weights is None else {**self.weights, **weights})
        rows = Rows()
        for spec in self._specs:
            rows.put(spec.name, inputs[spec.name].reshape(-1, *spec.shape))
        watched: dict[str, Tensor] = {}
        for step in self._plan(also):
            run(step, constants, rows, after)
            for name in step.outputs:
                if name in also:
                    watched[name] = rows.watch(name) if name in rows else constants[name]
            for name in step.last_uses:
                rows.drop(name)
        count = len(next(iter(inputs.values())))
        return {**watched, **{name: _result(name, leading, constants, rows, count) for name, leading in self._outputs}}

    def _plan(self, also: Collection[str]) -> list[Step]:
        """The steps after which the outputs and the values named in `also` are there."""
        key = frozenset(also)
        if key not in self._plans:
            ends = {*self._trained_names, *self._fixed_names, *(name for name, _ in self._outputs)}
            self._plans[key] = planned(self._steps, key | ends)
        return self._plans[key]


def _result(name: str, leading: bool, constants: dict[str, Tensor], rows: Rows, count: int) -> Tensor:
    tensor = rows.get(name) if name in rows else constants[name].expand(count, *constants[name].shape)
    return tensor.squeeze(1) if leading else tensor


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
