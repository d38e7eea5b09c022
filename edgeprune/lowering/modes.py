"""Chooses the layout of every image of the graph together: channels-last where weights come in blocks, planar where
zeros are scattered, with as few changes between them as pays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import read_weight
from edgeprune.kernels.abi import FLOAT32, Format, Machine
from edgeprune.kernels.conv2d.channels import estimate_channels
from edgeprune.kernels.conv2d.channels_variant import multiplies_by_element
from edgeprune.kernels.conv2d.pixels import estimate_pixels
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.lowering.geometry import window_of
from edgeprune.lowering.groups import IMAGE_KINDS, Group, find_groups, shape_of
from edgeprune.lowering.layout import Mode, new_home
from edgeprune.lowering.quantization import without_quantization
from edgeprune.lowering.strided import image_shape, image_view
from edgeprune.lowering.trace import Trace, trace_movements
from edgeprune.mask import stored_share
from edgeprune.minimum_cut import cheapest
from edgeprune.pattern import Pattern

TO_PIXELS_CYCLES, TO_CHANNELS_CYCLES = 0.8, 0.2
"""Cycles to bring one float32 element from one layout to the other: channels-last kernels mostly read planar images
as they are."""

_SCATTERED = 0.9
"""Zeros count as scattered when the weights kept fill less than this share of the vectors that hold them."""

_CHANNELS: dict[Mode, float] = {"channels": 0.0, "pixels": 1e15}
"""The costs of what can only be channels-last."""

LAYOUT_KEY = "edgeprune.layout"
"""The node metadata entry that says in which layout the node's images are: "channels" or "pixels"."""

Modes = Mapping[int, Mode]
"""The layout of each group's result, by the identity of its anchor node; channels-last for any other."""


def choose_modes(
    groups: Sequence[Group], trace: Trace, machine: Machine, fixed: Collection[int] = (), real: Format = FLOAT32
) -> Modes:
    """The layouts with the smallest estimated total of convolutions and layout changes; `fixed` is channels-last.

    `real` is the format that convolutions of real numbers compute in.
    """
    images = _images(groups, trace)
    if not _has_zeros(images, 1 if multiplies_by_element(machine) else machine.lanes):
        return {}
    costs = {
        id(group.anchor): _CHANNELS if id(group.anchor) in fixed else _costs(group, machine, real) for group in images
    }
    planar = cheapest(
        {key: (cost["channels"], cost["pixels"]) for key, cost in costs.items()},
        [
            (left, right, TO_PIXELS_CYCLES * elements, TO_CHANNELS_CYCLES * elements)
            for left, right, elements in _edges(images, trace)
        ],
    )
    return {key: "pixels" if key in planar else "channels" for key in costs}


def named_modes(groups: Sequence[Group], modes: Mapping[str, Mode]) -> Modes:
    """`modes` by the name of the anchor node as Modes; a group that is not named is channels-last."""
    return {id(group.anchor): modes.get(group.anchor.name or "", "channels") for group in groups}


def noted_modes(groups: Sequence[Group]) -> dict[str, Mode]:
    """The layouts that are noted on the nodes of `groups`, by node name; another note than a layout is passed over."""
    notes = ((group.anchor.name or "", group.anchor.metadata_props.get(LAYOUT_KEY)) for group in groups)
    layouts: dict[str, Mode] = {"channels": "channels", "pixels": "pixels"}
    return {name: layouts[note] for name, note in notes if note in layouts}


def image_changes(model: ir.Model) -> tuple[list[str], list[tuple[str, str, int]]]:
    """The anchors of `model` whose results are images, and which read which, with the elements to bring over."""
    plain = without_quantization(model, "generic")
    groups = find_groups(plain.model, plain.grids)
    trace = trace_movements(groups)
    images = _images(groups, trace)
    names = {id(group.anchor): group.anchor.name or "" for group in images}
    return list(names.values()), [(names[left], names[right], size) for left, right, size in _edges(images, trace)]


def _images(groups: Sequence[Group], trace: Trace) -> list[Group]:
    return [group for group in groups if group.kind in IMAGE_KINDS or id(group.output) in trace.assemblies]


def _edges(images: Sequence[Group], trace: Trace) -> list[tuple[int, int, int]]:
    """Which results read which, and the elements to bring from one layout to the other."""
    producer = {id(group.output): id(group.anchor) for group in images}
    edges = []
    for group in images:
        for value in group.reads:
            if value.const_value is not None or value.shape is None:
                continue
            root = trace.origin(value).root
            if id(root) in producer and id(root) != id(group.output) and _pixels(shape_of(value)) > 1:
                elements = int(np.prod(shape_of(value)))
                edges.append((producer[id(root)], id(group.anchor), elements))
    return edges


def _costs(group: Group, machine: Machine, real: Format) -> dict[Mode, float]:
    """Estimated cycles in both layouts; nothing for what takes about the same in either."""
    window = window_of(group)
    if group.kind != "conv2d" or window is None or group.layer is None or _pixels(shape_of(group.output)) == 1:
        return {"channels": 0.0, "pixels": 0.0}
    weights, groups = read_weight(group.layer), group.layer.groups
    source, target = shape_of(group.inputs[0]), shape_of(group.anchor.outputs[0])

    def problem(mode: Mode) -> Conv2d:
        x, _ = new_home("x", source, mode, window.halo(source, target), image=True)
        y, _ = new_home("y", target, mode, (0, 0, 0, 0), image=True)
        views = image_view(x.place, real), image_view(y.place, real)
        geometry = (window.kernel, window.strides, window.dilations, window.pads[:2])
        return Conv2d(*views, *geometry, groups, bias=True, epilogue=())

    return {
        "channels": estimate_channels(problem("channels"), weights, machine),
        "pixels": estimate_pixels(problem("pixels"), weights, machine),
    }


def _has_zeros(images: Sequence[Group], lanes: int) -> bool:
    """Whether the convolutions hold many zeros that vectors of `lanes` output channels do not share; 1: any zeros."""
    kept = stored = 0.0
    for group in images:
        if group.kind == "conv2d" and group.layer is not None:
            weights = read_weight(group.layer)
            kept += float(np.count_nonzero(weights))
            stored += weights.size * (stored_share(weights, Pattern(1, lanes)) if lanes > 1 else 1.0)
    return kept < _SCATTERED * stored


def _pixels(shape: tuple[int, ...]) -> int:
    _, _, height, width = image_shape(shape)
    return height * width
