"""What a layer sees and should give, as second moments: all that a least-squares fit of its weights needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.ir.weights import WeightedLayer

CHUNK = 4096
"""Output positions that are unfolded at a time."""


@dataclass(frozen=True)
class LayerStatistics:
    """Moments per group over `count` output positions, in float64.

    `second` [groups, F, F] is the covariance of the inputs that one output position reads (F = taps * in),
    `cross` [groups, F, out] that of inputs and wanted outputs, `mean_in` [groups, F] and `mean_out` [groups, out]
    their means. With `bias` the moments are central; without it they are about zero and the means are zero.
    """

    second: np.ndarray
    cross: np.ndarray
    mean_in: np.ndarray
    mean_out: np.ndarray
    power_out: float
    count: int

    def error(self, weights: np.ndarray) -> float:
        """The mean squared error of weights [groups, F, out] relative to the power of the wanted outputs."""
        fitted = np.sum(weights * (self.second @ weights)) - 2 * np.sum(weights * self.cross)
        return float(1 + fitted / max(self.power_out, np.finfo(np.float64).tiny))


def gather_statistics(
    layer: WeightedLayer,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    bias: bool,
    positions: int,
    generator: np.random.Generator,
) -> LayerStatistics:
    """Moments of `inputs` (rows of the layer's input) against `targets` (rows of the wanted output).

    Both have rows first, then the tensor's own shape. At most `positions` output positions, drawn without
    replacement over all rows, are used.
    """
    unfolded = _Linear(inputs, targets) if layer.kind == "linear" else _Convolution(layer, inputs, targets)
    total = unfolded.total
    chosen = np.arange(total) if total <= positions else np.sort(generator.choice(total, positions, replace=False))
    return _moments(unfolded, chosen, layer.groups, bias)


class _Linear:
    """The rows of a matrix product."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        self._inputs = inputs.reshape(-1, inputs.shape[-1])
        self._targets = targets.reshape(-1, targets.shape[-1])
        self.total = len(self._inputs)

    def rows(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._inputs[chosen][:, None, :], self._targets[chosen]


class _Convolution:
    """The output pixels of a convolution of rank 3 or 4, each with the inputs under its kernel."""

    def __init__(self, layer: WeightedLayer, inputs: np.ndarray, targets: np.ndarray) -> None:
        attributes, rank = layer.node.attributes, inputs.ndim - 3
        images = inputs.reshape(-1, *inputs.shape[2:])
        wanted = targets.reshape(-1, *targets.shape[2:])
        pads = attributes.get_ints("pads", [0] * 2 * rank)
        padding = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        self._images = np.ascontiguousarray(np.moveaxis(np.pad(images, padding), 1, -1))
        self._wanted = np.moveaxis(wanted, 1, -1)
        self._strides = attributes.get_ints("strides", [1] * rank)
        self._dilations = attributes.get_ints("dilations", [1] * rank)
        assert layer.weight.const_value is not None
        self._kernel = tuple(int(size) for size in layer.weight.const_value.shape.numpy()[2:])
        self.total = int(np.prod(self._wanted.shape[:-1]))

    def rows(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, *pixel = np.unravel_index(chosen, self._wanted.shape[:-1])
        taps = []
        for tap in np.ndindex(*self._kernel):
            steps = zip(pixel, self._strides, tap, self._dilations, strict=True)
            taps.append(self._images[(image, *(p * stride + t * dilation for p, stride, t, dilation in steps))])
        return np.stack(taps, axis=1), self._wanted[(image, *pixel)]


def _moments(unfolded: _Linear | _Convolution, chosen: np.ndarray, groups: int, bias: bool) -> LayerStatistics:
    second: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    mean_in: np.ndarray | float = 0.0
    mean_out: np.ndarray | float = 0.0
    power: np.ndarray | float = 0.0
    for start in range(0, len(chosen), CHUNK):
        x, z = (_grouped(part, groups) for part in unfolded.rows(chosen[start : start + CHUNK]))
        transposed = x.transpose(0, 2, 1)
        second = second + (transposed @ x).astype(np.float64)
        cross = cross + (transposed @ z).astype(np.float64)
        mean_in = mean_in + x.sum(axis=1, dtype=np.float64)
        mean_out = mean_out + z.sum(axis=1, dtype=np.float64)
        power = power + np.sum(np.square(z), dtype=np.float64)
    count = len(chosen)
    second, cross, power = np.asarray(second) / count, np.asarray(cross) / count, float(power) / count
    scale = 1 / count if bias else 0.0
    mean_in, mean_out = np.asarray(mean_in) * scale, np.asarray(mean_out) * scale
    second = second - mean_in[:, :, None] * mean_in[:, None, :]
    cross = cross - mean_in[:, :, None] * mean_out[:, None, :]
    return LayerStatistics(second, cross, mean_in, mean_out, power - float(np.sum(mean_out**2)), count)


def _grouped(part: np.ndarray, groups: int) -> np.ndarray:
    """[positions, (taps,) channels] as [groups, positions, taps * channels of one group]."""
    channels = part.shape[-1] // groups
    split = np.moveaxis(part.reshape(*part.shape[:-1], groups, channels), -2, 0)
    return np.ascontiguousarray(split.reshape(groups, len(part), -1))
