"""What single output positions of a layer see and should give, drawn from the calibration rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.ir.ports import static_shape
from edgeprune.ir.weights import WeightedLayer

HELD_EVERY = 8
"""One of so many rows is held back to judge what was fitted on the others."""

CHUNK = 4096
"""Positions that are worked on at a time."""


@dataclass(frozen=True)
class Observations:
    """Output positions of one layer, in float32.

    `inputs` [groups, positions, F] are what each position reads (F = taps * in), `targets` [groups, positions, out]
    what it should give. Where there is a `floor` (of the shape of `targets`), outputs at or below it make no
    difference: a rectifier follows.
    """

    inputs: np.ndarray
    targets: np.ndarray
    floor: np.ndarray | None = None

    @property
    def count(self) -> int:
        """The number of positions."""
        return int(self.inputs.shape[1])

    def chunks(self) -> Iterator[Observations]:
        """The positions, CHUNK at a time."""
        for begin in range(0, self.count, CHUNK):
            part = slice(begin, begin + CHUNK)
            floor = None if self.floor is None else self.floor[:, part]
            yield Observations(self.inputs[:, part], self.targets[:, part], floor)

    def outputs(self, weights: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        """What weights [groups, F, out] and a bias [groups, 1, out] give: [groups, positions, out]."""
        found = self.inputs @ np.asarray(weights, np.float32)
        found += np.asarray(bias, np.float32)
        return found

    def error(self, weights: np.ndarray, bias: np.ndarray | float = 0.0) -> float:
        """The mean squared error of the outputs, behind the rectifier where there is one."""
        total = 0.0
        for part in self.chunks():
            found, wanted = part.outputs(weights, bias), part.targets
            if part.floor is not None:
                found, wanted = np.maximum(found, part.floor), np.maximum(wanted, part.floor)
            total += float(np.sum(np.square(found - wanted), dtype=np.float64))
        return total / self.targets.size

    def attainable(self, weights: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        """The targets; where they lie below the floor, what `weights` give there, but no more than the floor.

        The squared distance to them bounds the error behind the rectifier from above, closer than that to the
        targets. (After Zhang et al. 2016, "Accelerating very deep convolutional networks", section 3.2.)
        """
        if self.floor is None:
            return self.targets
        below = np.minimum(self.outputs(weights, bias), self.floor)
        return np.where(self.targets <= self.floor, below, self.targets)


def observe(
    layer: WeightedLayer,
    inputs: np.ndarray,
    targets: np.ndarray,
    floor: np.ndarray | None,
    *,
    positions: int,
    generator: np.random.Generator,
) -> tuple[Observations, Observations]:
    """Positions to fit on, at most about `positions` drawn without replacement, and an eighth more to judge by.

    `inputs` (rows of the layer's input), `targets` and `floor` (rows of its output) have rows first, then the
    tensor's own shape. The rows to judge by are not fitted on, except that a single row serves for both.
    """
    layout = _layout(layer, inputs, targets.shape)
    total = layout.total
    chosen = _drawn(total, positions + positions // (HELD_EVERY - 1), generator)
    seen = _grouped(layout.unfold(chosen), layer.groups)
    given = _grouped(layout.pick(targets, chosen), layer.groups)
    least = None if floor is None else _grouped(layout.pick(floor, chosen), layer.groups)
    count = len(inputs)
    row = chosen // (total // count)
    held = row % min(HELD_EVERY, count) == min(HELD_EVERY, count) - 1
    split = (~held, held) if count > 1 and 0 < held.sum() < len(held) else (slice(None), slice(None))
    fit, judge = (
        Observations(seen[:, part], given[:, part], None if least is None else least[:, part]) for part in split
    )
    return fit, judge


def observe_inputs(
    layer: WeightedLayer, inputs: np.ndarray, *, positions: int, generator: np.random.Generator
) -> np.ndarray:
    """What at most `positions` output positions read, [groups, positions, F], drawn without replacement.

    `inputs` are rows of the layer's input, rows first.
    """
    layout = _layout(layer, inputs, (len(inputs), *static_shape(layer.node.outputs[0])))
    return _grouped(layout.unfold(_drawn(layout.total, positions, generator)), layer.groups)


def _drawn(total: int, wanted: int, generator: np.random.Generator) -> np.ndarray:
    return np.arange(total) if total <= wanted else np.sort(generator.choice(total, wanted, replace=False))


def _layout(layer: WeightedLayer, inputs: np.ndarray, outputs: tuple[int, ...]) -> _Linear | _Convolution:
    """How rows of `inputs` become output positions; `outputs` is the shape of the rows of the layer's output."""
    return _Linear(inputs, outputs) if layer.kind == "linear" else _Convolution(layer, inputs, outputs)


class _Linear:
    """The rows of a matrix product."""

    def __init__(self, inputs: np.ndarray, outputs: tuple[int, ...]) -> None:
        self._inputs = inputs.reshape(-1, inputs.shape[-1])
        self.total = math.prod(outputs[:-1])

    def unfold(self, chosen: np.ndarray) -> np.ndarray:
        return self._inputs[chosen][:, None, :]

    def pick(self, outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return outputs.reshape(-1, outputs.shape[-1])[chosen]


class _Convolution:
    """The output pixels of a convolution of rank 3 or 4, each with the inputs under its kernel."""

    def __init__(self, layer: WeightedLayer, inputs: np.ndarray, outputs: tuple[int, ...]) -> None:
        attributes, rank = layer.node.attributes, inputs.ndim - 3
        images = inputs.reshape(-1, *inputs.shape[2:])
        pads = attributes.get_ints("pads", [0] * 2 * rank)
        padding = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        self._images = np.ascontiguousarray(np.moveaxis(np.pad(images, padding) if any(pads) else images, 1, -1))
        self._strides = attributes.get_ints("strides", [1] * rank)
        self._dilations = attributes.get_ints("dilations", [1] * rank)
        assert layer.weight.const_value is not None
        self._kernel = tuple(int(size) for size in layer.weight.const_value.shape.numpy()[2:])
        self._shape = (len(images), *outputs[3:])
        self.total = int(np.prod(self._shape))

    def unfold(self, chosen: np.ndarray) -> np.ndarray:
        image, *pixel = np.unravel_index(chosen, self._shape)
        unfolded = np.empty((len(chosen), int(np.prod(self._kernel)), self._images.shape[-1]), self._images.dtype)
        for index, tap in enumerate(np.ndindex(*self._kernel)):
            steps = zip(pixel, self._strides, tap, self._dilations, strict=True)
            unfolded[:, index] = self._images[(image, *(p * stride + t * wide for p, stride, t, wide in steps))]
        return unfolded

    def pick(self, outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        where: list[Any] = list(np.unravel_index(chosen, self._shape))
        where.insert(1, slice(None))
        return np.asarray(outputs.reshape(-1, *outputs.shape[2:])[tuple(where)])


def _grouped(part: np.ndarray, groups: int) -> np.ndarray:
    """[positions, (taps,) channels] as [groups, positions, taps * channels of one group], in float32."""
    channels = part.shape[-1] // groups
    split = np.moveaxis(part.reshape(*part.shape[:-1], groups, channels), -2, 0)
    return np.ascontiguousarray(split.reshape(groups, len(part), -1), dtype=np.float32)
