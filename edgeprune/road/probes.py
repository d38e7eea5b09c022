"""Probes: the whole model with every layer at one level, in one layout, so that a layer is timed in its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers, write_weight
from edgeprune.lowering.build import constant_bytes
from edgeprune.lowering.plan import Call
from edgeprune.mask import mask_from_scores
from edgeprune.pattern import Level, Pattern
from edgeprune.search.costs import layouts_of
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.layout import Mode
    from edgeprune.lowering.plan import Plan

DENSITIES = (0.1, 0.25, 0.5, 0.75)
"""What is probed beside the dense model; costs in between lie on lines."""

FULL = Level(Pattern(), 1.0)

_COPY = "Move"


@dataclass(frozen=True)
class Probe:
    """Every layer at `level`; `layout` is one for all images, or one by node name."""

    layout: Mode | Mapping[str, Mode]
    level: Level


@dataclass(frozen=True)
class Reading:
    """What a probe costs: microseconds by step, those of copies before steps, bytes of constants by step.

    `call_us` is what an inference takes beside its steps; `weights_bytes` counts all constants, `code_bytes` the rest.
    """

    times_us: Mapping[str, float]
    copies_us: Mapping[str, float]
    call_us: float
    bytes: Mapping[str, int]
    weights_bytes: int
    code_bytes: int

    @property
    def whole_us(self) -> float:
        """Microseconds of an inference."""
        return sum(self.times_us.values()) + self.call_us


def probes_of(target: Target, images: Sequence[str], *, convolves: bool = True) -> list[Probe]:
    """The probes for `target`: every layout dense, every pattern at each density in the layout it needs.

    Where there are two layouts the last probe has both in turn over the steps `images`: what it copies says what a
    change costs. A model whose layers are all linear, not `convolves`, has no planar images. A pattern with a level
    of its own has one probe.
    """
    layouts = {name: found for name, found in layouts_of(target.patterns).items() if convolves or name == "channels"}
    found = []
    for name, patterns in layouts.items():
        layout: Mode = "pixels" if name == "pixels" else "channels"
        found.append(Probe(layout, FULL))
        for pattern in patterns:
            densities = DENSITIES if pattern.density is None else (pattern.density,)
            found += [Probe(layout, Level(pattern, density)) for density in densities]
    if len(layouts) > 1 and len(images) > 1:
        turns: tuple[Mode, Mode] = ("channels", "pixels")
        found.append(Probe({name: turns[index % 2] for index, name in enumerate(images)}, FULL))
    return found


def prunable(model: ir.Model) -> list[WeightedLayer]:
    """The layers that a table has: all with a constant weight of their own but depthwise ones."""
    return [layer for layer in weighted_layers(model) if layer.kind != "depthwise" and not layer.shared]


def masked(model: ir.Model, levels: Mapping[str, Level], seed: int) -> ir.Model:
    """A copy of `model` whose layers in `levels` keep random blocks; zeros that came with the model are filled."""
    copy = copy_model(model)
    generator = np.random.default_rng(seed)
    for layer in prunable(copy):
        level = levels.get(layer.name, FULL)
        weight = read_weight(layer)
        weight[weight == 0] = np.abs(weight).mean() or 1.0
        if level.density < 1:
            density = None if level.pattern.group is not None else level.density
            weight *= mask_from_scores(generator.random(weight.shape), level.pattern, density)
        write_weight(layer, weight)
    return copy


def calls_of(plan: Plan) -> list[Call]:
    """The steps of `plan` that a profile times, in order."""
    return [step for step in plan.steps if isinstance(step, Call)]


def by_step(plan: Plan, times_us: Sequence[float], known: frozenset[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds by step name, from those of each call; and, within them, of the copies before each step.

    A copy that some step of `known` needs comes right before it and counts as part of it.
    """
    whole: dict[str, float] = {}
    copies: dict[str, float] = {}
    waiting = 0.0
    for call, time in zip(calls_of(plan), times_us, strict=True):
        name = call.layer.name
        if call.layer.op == _COPY and name not in known:
            waiting += time
            continue
        copies[name] = copies.get(name, 0.0) + waiting
        whole[name] = whole.get(name, 0.0) + waiting + time
        waiting = 0.0
    if waiting:
        whole[""] = whole.get("", 0.0) + waiting
    return whole, copies


def packed_bytes(plan: Plan, bare: bool = False) -> dict[str, int]:
    """Bytes of the constants that the steps of each name read, as they are stored; shared ones count once.

    `bare`: on a microcontroller.
    """
    sizes = constant_bytes(plan, bare)
    found: dict[str, int] = {}
    for call in calls_of(plan):
        own = sum(sizes.pop(name, 0) for name in dict.fromkeys(call.arguments))
        found[call.layer.name] = found.get(call.layer.name, 0) + own
    return found
