"""What a probe would take on a machine that is not here: the kernels' cycle models, and bytes moved for the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call
from edgeprune.road.cost_rows import Readings, Structure
from edgeprune.road.probes import Probe, Reading, by_step, calls_of, masked, packed_bytes
from edgeprune.road.writing import Writer
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.plan import Plan
    from edgeprune.progress import Progress

_BYTES_A_CYCLE = 6.0
_CALL_CYCLES = 150.0
_RUNTIME_BYTES = 12_000
_KERNEL_BYTES = 1_800


def predicted_readings(
    model: ir.Model,
    target: Target,
    probes: list[Probe],
    structure: Structure,
    threads: int,
    seed: int,
    write: Writer,
    progress: Progress,
) -> Readings:
    """The readings of `probes`, lowered and not compiled; cycles become time by the clock that the target states."""
    known = frozenset((*structure.layers, *structure.images))
    found = []
    for index, probe in enumerate(probes):
        progress("predicting", index, len(probes), f"{probe.level.pattern} {probe.level.density:g}")
        levels = dict.fromkeys(structure.layers, probe.level)
        plan = lower(write(masked(model, levels, seed)), target, mode=probe.layout)
        found.append((probe, _reading(plan, target, threads, known)))
    progress("predicting", len(probes), len(probes), "")
    return found


def _reading(plan: Plan, target: Target, threads: int, known: frozenset[str]) -> Reading:
    sizes = _sizes(plan)
    steps = [_call_us(call, sizes, target, threads) for call in calls_of(plan)]
    times, copies = by_step(plan, steps, known)
    packed = packed_bytes(plan, target.bare)
    code = _RUNTIME_BYTES + _KERNEL_BYTES * len(plan.functions)
    return Reading(times, copies, 0.0, packed, sum(packed.values()), code)


def _call_us(call: Call, sizes: dict[str, int], target: Target, threads: int) -> float:
    moved = sum(sizes.get(name, 0) for name in dict.fromkeys(call.arguments))
    arithmetic = call.layer.dense_macs / target.lanes
    cycles = call.layer.cycles or max(moved / _BYTES_A_CYCLE, arithmetic)
    # Kernels of microcontrollers count instructions.
    a_count = 1.0 if target.per_instruction is None else target.per_instruction.cycles
    return a_count * (_CALL_CYCLES + cycles / max(1, min(threads, call.units))) / target.clock_mhz


def _sizes(plan: Plan) -> dict[str, int]:
    """Bytes of every buffer and port."""
    sizes = {port.buffer: math.prod(port.shape) * np.dtype(port.dtype).itemsize for port in plan.ports}
    return {**sizes, **{buffer.name: buffer.size for buffer in plan.buffers}}
