"""What ONNX Resize computes: for every axis the entries that each result reads, and how much each of them counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant

Attributes = Mapping[str, Any]
"""Attributes of a Resize by name; those that are left out have the defaults of the standard."""

_FILTERS = {"linear": 1, "cubic": 2}
_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.floor(places) + (places - np.floor(places) > 0.5),
    "round_prefer_ceil": lambda places: np.floor(places) + (places - np.floor(places) >= 0.5),
}


@dataclass(frozen=True)
class Resampling:
    """One axis at another size: result i is the sum over k of weights[k, i] x the entry taps[k, i].

    int64 `taps` and float32 `weights` [K, after]; `inside` [after] is False where a crop reaches beyond the data, and
    the result is the extrapolation value.
    """

    axis: int
    taps: np.ndarray
    weights: np.ndarray
    inside: np.ndarray

    @property
    def copies(self) -> bool:
        """Whether every result is one of the entries."""
        return self.taps.shape[0] == 1 and bool(np.all(self.weights == 1) and np.all(self.inside))

    def matrix(self, size: int) -> np.ndarray:
        """The float32 matrix [size, after] that rows of `size` entries are multiplied by."""
        matrix = np.zeros((size, self.taps.shape[1]), np.float32)
        np.add.at(matrix, (self.taps, np.arange(self.taps.shape[1])), self.weights)
        return matrix


def resamplings(
    shape: Sequence[int],
    attributes: Attributes,
    region: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> list[Resampling]:
    """What Resize does to every axis of a tensor of `shape` that it changes, by the definition of ONNX.

    `scales` or `sizes`, and `region` for crops, have one entry for each of the attribute `axes` (else for every axis).
    As ONNX Runtime does it: positions are float32, which decides ties between pixels, and a tensor whose shape stays is
    left as it is, whatever the scales.
    """
    axes = [int(axis) % len(shape) for axis in attributes.get("axes", range(len(shape)))]
    found = []
    extents, crops = _extents(shape, axes, attributes, scales, sizes), _crops(len(axes), attributes, region)
    if [after for _, after in extents] == [shape[axis] for axis in axes]:
        return []
    for axis, (scale, after), crop in zip(axes, extents, crops, strict=True):
        if after != shape[axis] or scale != 1 or crop not in (None, (0.0, 1.0)):
            found.append(_axis(axis, shape[axis], after, np.float32(scale), attributes, crop))
    return found


def node_resamplings(node: ir.Node) -> list[Resampling] | None:
    """What the Resize `node` does; None where its shape, or what it is to give, is not known ahead."""
    data, *given = [*node.inputs, None, None, None][:4]
    if data is None or data.shape is None or not data.shape.is_static():
        return None
    arrays = [constant(value) for value in given]
    if any(value is not None and array is None for value, array in zip(given, arrays, strict=True)):
        return None
    region, scales, sizes = (None if array is None or array.size == 0 else array for array in arrays)
    if scales is None and sizes is None:
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return resamplings([int(size) for size in data.shape.numpy()], attributes, region, scales, sizes)


def _crops(count: int, attributes: Attributes, region: np.ndarray | None) -> list[tuple[float, float] | None]:
    """Where the crop of each axis starts and ends, as parts of it; None where nothing is cropped."""
    if _text(attributes, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        return [None] * count
    ends = [0.0] * count + [1.0] * count if region is None or not region.size else region.reshape(-1).tolist()
    return [(float(first), float(last)) for first, last in zip(ends[:count], ends[count:], strict=True)]


def _extents(
    shape: Sequence[int],
    axes: Sequence[int],
    attributes: Attributes,
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
) -> list[tuple[float, int]]:
    """The scale and the size of each of `axes`."""
    if sizes is None:
        given = [np.float32(scale) for scale in np.asarray(scales).reshape(-1)]
        return [
            (float(scale), int(np.floor(np.float32(shape[axis]) * scale)))
            for axis, scale in zip(axes, given, strict=True)
        ]
    wanted = [int(size) for size in sizes.reshape(-1)]
    ratios = [size / shape[axis] for axis, size in zip(axes, wanted, strict=True)]
    policy = _text(attributes, "keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(zip(ratios, wanted, strict=True))
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(scale, math.floor(scale * shape[axis] + 0.5)) for axis in axes]


def _axis(
    axis: int,
    size: int,
    after: int,
    scale: np.float32,
    attributes: Attributes,
    crop: tuple[float, float] | None,
) -> Resampling:
    coordinate = _text(attributes, "coordinate_transformation_mode", "half_pixel")
    places = _cropped(size, after, crop) if crop is not None else positions(size, after, scale, coordinate)
    inside = (places >= 0) & (places <= size - 1) if crop is not None else np.ones(after, bool)
    mode = _text(attributes, "mode", "nearest")
    if mode == "nearest":
        rounded = _ROUNDINGS[_text(attributes, "nearest_mode", "round_prefer_floor")](places)
        taps = rounded.clip(0, size - 1).astype(np.int64)[None]
        return Resampling(axis, taps, np.ones(taps.shape, np.float32), inside)
    squeezed = min(1.0, float(scale)) if attributes.get("antialias", 0) else 1.0
    taps, weights = _filtered(places.astype(np.float64), squeezed, mode, float(attributes.get("cubic_coeff_a", -0.75)))
    if attributes.get("exclude_outside", 0):
        weights = np.where((taps >= 0) & (taps < size), weights, 0)
        weights = weights / weights.sum(axis=0)
    used = np.flatnonzero(np.any(weights != 0, axis=1))
    taps, rows = np.unique(taps[used].clip(0, size - 1), axis=0, return_inverse=True)
    summed = np.zeros(taps.shape)
    np.add.at(summed, rows.reshape(-1), weights[used])
    return Resampling(axis, taps, summed.astype(np.float32), inside)


def positions(size: int, after: int, scale: np.float32, coordinate: str) -> np.ndarray:
    """The float32 coordinate in the source of each of `after` results, by the coordinate mode of Resize."""
    half, places = np.float32(0.5), np.arange(after, dtype=np.float32)
    if coordinate == "align_corners":
        return places * np.float32(size - 1) / np.float32(max(1, after - 1))
    if coordinate == "asymmetric":
        return places / scale
    if coordinate == "pytorch_half_pixel" and after == 1:
        return np.zeros(1, np.float32)
    offset = np.float32(0)
    if coordinate == "half_pixel_symmetric":
        offset = np.float32(size) / 2 * (1 - np.float32(after) / (scale * np.float32(size)))
    return np.asarray((offset + (places + half) / scale) - half, np.float32)


def _cropped(size: int, after: int, crop: tuple[float, float]) -> np.ndarray:
    first, last = np.float32(crop[0]), np.float32(crop[1])
    if after == 1:
        return np.array([(first + last) * (size - 1) / 2], np.float32)
    within = np.arange(after, dtype=np.float32) * (last - first) * np.float32(size - 1) / np.float32(after - 1)
    return first * np.float32(size - 1) + within


def _filtered(places: np.ndarray, squeezed: float, mode: str, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Entries and weights [K, after] around `places`; a filter that is stretched by 1 / `squeezed` is normalised."""
    first = math.floor(-_FILTERS[mode] / squeezed) + 1
    lowest = np.floor(places)
    steps = np.arange(first, 2 - first)[:, None]
    distance = np.abs(steps - (places - lowest)) * squeezed
    weights = np.clip(1 - distance, 0, 1) if mode == "linear" else _cubic(distance, a)
    if squeezed < 1:
        weights = weights / weights.sum(axis=0)
    return (lowest + steps).astype(np.int64), weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _text(attributes: Attributes, name: str, default: str) -> str:
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)
