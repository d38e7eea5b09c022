"""Images at another size."""

from __future__ import annotations

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.values import channels_first


def resize_bilinear(call: Call) -> None:
    """Weighted means of the four neighbours."""
    _resize(call, {"mode": "linear"})


def resize_nearest(call: Call) -> None:
    """The pixel that a position falls into, or with aligned corners the nearest one."""
    rounding = "round_prefer_ceil" if call.option("AlignCorners") else "floor"
    _resize(call, {"mode": "nearest", "nearest_mode": rounding})


def _resize(call: Call, attributes: dict[str, str]) -> None:
    data, sizes = call.get(0, channels_first(4)), call.integers(1)
    if len(shape_of(data)) != 4 or len(sizes) != 2 or min(sizes) < 1:
        raise call.corrupt(f"{list(call.shape(0))} cannot have the size {sizes}")
    positions = "asymmetric"
    if call.option("AlignCorners"):
        positions = "align_corners"
    elif call.option("HalfPixelCenters"):
        positions = "half_pixel"
        attributes = {**attributes, "nearest_mode": "round_prefer_ceil"}
    shape = call.vector([*shape_of(data)[:2], *sizes])
    attributes = {**attributes, "coordinate_transformation_mode": positions}
    call.put(call.add("Resize", data, None, None, shape, **attributes), channels_first(4))
