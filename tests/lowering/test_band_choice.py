"""Parts of a network in bands of rows: what a budget needs, or what halves the memory for little work."""

from __future__ import annotations

import onnx_ir as ir
from lowered import canonical
from qdq_networks import Network

from edgeprune.lowering.band_choice import Banding, with_bands
from edgeprune.lowering.bands import BANDS_KEY
from edgeprune.lowering.build import arena_bytes
from edgeprune.lowering.lower import lower
from edgeprune.lowering.overlap import allocate_overlapping
from edgeprune.lowering.plan import Call, Plan
from edgeprune.target import load_target

TARGET = load_target("cortex-m4")


def wide(side: int, channels: int, end: int = 3, seed: int = 3) -> ir.Model:
    """A small input that many channels are made of, of which few are left: the peak is in the first layers."""
    n, scale = Network(seed), 0.05
    x = n.quantized("x", scale, 3)
    for shape, step in (((channels, 1, 3, 3), 1), ((channels, channels, end, end), 1), ((4, channels, 2, 2), 2)):
        pad = shape[2] // 2 * (step == 1)
        x = n.quantized(n.conv(x, scale, shape, pads=[pad] * 4, strides=[step, step]), scale, 3)
    model: ir.Model = canonical(
        n.model({"x": [1, 1, side, side]}, [n.quantized(n.conv(x, scale, (3, 4, 1, 1)), 0.2, 1)])
    )
    return model


def told(banding: Banding) -> set[str]:
    """The names of the nodes on which bands are noted."""
    return {str(node.name) for node in banding.model.graph if BANDS_KEY in node.metadata_props}


def test_what_halves_the_memory_for_little_work_is_in_bands_unasked() -> None:
    model = wide(32, 16, end=1)
    found = with_bands(model, TARGET, None)
    assert found.segments and found.whole_ram_bytes == arena_bytes(lower(model, TARGET), TARGET)
    assert found.ram_bytes == arena_bytes(found.plan, TARGET) <= 0.5 * found.whole_ram_bytes
    assert told(found) == {segment.result for segment in found.segments}
    work = sum(step.layer.macs for step in lower(model, TARGET).steps if isinstance(step, Call))
    assert 0 <= sum(segment.extra_macs for segment in found.segments) <= 0.05 * work


def test_a_budget_that_is_met_anyway_changes_nothing() -> None:
    model = wide(32, 16)
    found = with_bands(model, TARGET, 1e6)
    assert found.model is model and not found.segments and found.ram_bytes == found.whole_ram_bytes


def test_a_budget_is_met_with_the_least_work_or_missed_by_least() -> None:
    model = wide(24, 8)
    whole = arena_bytes(lower(model, TARGET), TARGET)
    mild, hard, beyond = (with_bands(model, TARGET, share * whole) for share in (0.8, 0.4, 0.01))
    assert mild.ram_bytes <= 0.8 * whole and hard.ram_bytes <= 0.4 * whole
    assert work(mild) <= work(hard)
    assert 0.01 * whole < beyond.ram_bytes <= hard.ram_bytes
    assert not with_bands(model, TARGET, 0.01 * whole, closest=False).segments


def work(banding: Banding) -> int:
    return sum(segment.extra_macs for segment in banding.segments)


def test_other_targets_and_models_with_bands_are_left_as_they_are() -> None:
    model = wide(24, 8)
    assert not with_bands(model, load_target("x86-64-v3"), 1.0).segments
    noted = with_bands(model, TARGET, 0.4 * arena_bytes(lower(model, TARGET), TARGET)).model
    again = with_bands(noted, TARGET, 1.0)
    assert again.model is noted and not again.segments


def test_extra_work_is_what_the_plan_does_again() -> None:
    model = wide(24, 8)
    found = with_bands(model, TARGET, 0.4 * arena_bytes(lower(model, TARGET), TARGET))
    plain, banded = (macs(plan) for plan in (lower(model, TARGET), found.plan))
    assert banded - plain == work(found)


def macs(plan: Plan) -> int:
    return sum(step.layer.dense_macs for step in plan.steps if isinstance(step, Call))


def test_no_step_overwrites_what_a_later_one_reads() -> None:
    plan = with_bands(wide(24, 8), TARGET, 1.0).plan
    arena, sizes = allocate_overlapping(plan), {buffer.name: buffer.size for buffer in plan.buffers}
    owners = [""] * arena.size
    for port in plan.inputs:
        own(owners, arena.offsets[port.buffer], sizes[port.buffer], port.buffer)
    partial = 0
    for step in plan.steps:
        assert isinstance(step, Call)
        touched = [
            (name, *((0, sizes[name]) if part is None else (part.begin, part.end)))
            for name, part in zip(step.arguments, step.parts or (None,) * len(step.arguments), strict=True)
            if name in sizes
        ]
        made = (*step.writes, *(name for name in step.arguments if ".scratch" in name))
        for name, begin, end in touched:
            place = arena.offsets[name]
            assert name in made or set(owners[place + begin : place + end]) == {name}
        for name, begin, end in touched:
            if name in made:
                partial += end - begin < sizes[name]
                own(owners, arena.offsets[name] + begin, end - begin, name)
    assert partial


def own(owners: list[str], begin: int, size: int, name: str) -> None:
    owners[begin : begin + size] = [name] * size
