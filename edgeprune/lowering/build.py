"""A plan to the members of a package: the library, its C source and header, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeprune.cache import Cache
from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants, stored_sizes
from edgeprune.lowering.link import build_library, runtime_files
from edgeprune.lowering.overlap import allocate_overlapping
from edgeprune.lowering.plan import Call, Layer, Plan
from edgeprune.lowering.static_library import build_static, plain_sizes
from edgeprune.progress import Progress, silent
from edgeprune.target import Target

HEADER = "edge.h"


@dataclass(frozen=True)
class Built:
    """A compiled program; sizes in bytes. `ram_bytes` is the arena: inputs and outputs are the caller's.

    `weights_bytes` is what the library stores of its constants, `expanded_bytes` the memory that the coded ones of
    them take from the first context on. `offsets` has the places of inputs, outputs and states in the arena of a
    microcontroller, by buffer name.
    """

    library: bytes
    sources: dict[str, str]
    layers: tuple[Layer, ...]
    weights_bytes: int
    code_bytes: int
    ram_bytes: int
    expanded_bytes: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)


def build(
    plan: Plan, target: Target, progress: Progress = silent, cache: Cache | None = None, name: str = "model"
) -> Built:
    """Compile and link `plan` of the model `name`.

    Kernels that were compiled before come from `cache`, by default the user's. Raises EdgepruneError (link-failed).
    """
    progress("compiling", 0, 1, f"{len(plan.functions)} kernels")
    if target.bare:
        built = _static(plan, target, name, cache)
        progress("compiling", 1, 1, "")
        return built
    arena = allocate(plan)
    packed = pack_constants(plan)
    program = emit_source(plan, arena, packed, target)
    library = build_library(plan.functions, program, packed.blob, target, cache)
    progress("compiling", 1, 1, "")
    return Built(
        library=library.so,
        sources={**runtime_files(), **program},
        layers=tuple(step.layer for step in plan.steps if isinstance(step, Call)),
        weights_bytes=len(packed.blob),
        code_bytes=library.code_bytes,
        ram_bytes=arena.size,
        expanded_bytes=packed.expanded_bytes,
    )


def arena_bytes(plan: Plan, target: Target) -> int:
    """The scratch memory of the compiled `plan`, without compiling it."""
    return (allocate_overlapping(plan) if target.bare else allocate(plan)).size


def constant_bytes(plan: Plan, bare: bool) -> dict[str, int]:
    """Bytes that each constant of `plan` takes in the library, by name; of equal ones all but the first count nothing.

    `bare`: in a static library for a microcontroller, where they are used as they are stored.
    """
    return plain_sizes(plan) if bare else stored_sizes(plan)


def _static(plan: Plan, target: Target, name: str, cache: Cache | None) -> Built:
    library = build_static(plan, target, name, cache)
    return Built(
        library=library.archive,
        sources=library.sources,
        layers=library.layers,
        weights_bytes=library.weights_bytes,
        code_bytes=library.code_bytes,
        ram_bytes=library.arena.size,
        offsets={port.buffer: library.arena.offsets[port.buffer] for port in plan.ports},
    )
