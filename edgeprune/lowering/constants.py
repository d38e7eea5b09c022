"""The constants of a plan in one piece: those stored as they are, then the records of the coded ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.lowering.arena import ALIGNMENT
from edgeprune.lowering.coding import Choice, encode, smallest
from edgeprune.lowering.plan import Plan

_WORTH = 15 / 16
"""A coded constant takes memory and time when the model starts: it must be smaller than this share of the plain one."""


@dataclass(frozen=True)
class Packed:
    """What a library stores of its constants, and where each is when it runs; sizes and offsets in bytes.

    `plain` are the offsets in `blob` of constants that are used where they are stored; `coded`, those in the memory
    of `expanded_bytes` that the records from `records` on are expanded into. All are multiples of 64.
    """

    blob: bytes
    records: int
    plain: dict[str, int]
    coded: dict[str, int]
    expanded_bytes: int


def pack_constants(plan: Plan) -> Packed:
    """Pack every constant of `plan` in the fewest bytes; equal ones are stored once. Same plan, same bytes."""
    plain: dict[str, int] = {}
    coded: dict[str, int] = {}
    pieces: list[bytes] = []
    records: list[bytes] = []
    stored = expanded = 0
    for first, (value, names) in _distinct(plan).items():
        choice = _choice(value)
        if choice is None:
            plain.update(dict.fromkeys(names, stored))
            pieces.append(_padded(first))
            stored += len(pieces[-1])
        else:
            coded.update(dict.fromkeys(names, expanded))
            records.append(encode(value, choice))
            expanded += _rounded(value.nbytes)
    return Packed(b"".join(pieces + records), stored, plain, coded, expanded)


def stored_sizes(plan: Plan) -> dict[str, int]:
    """Bytes that each constant of `plan` takes in the library, by name; what is stored before counts as nothing."""
    sizes = {}
    for value, names in _distinct(plan).values():
        choice = _choice(value)
        sizes[names[0]] = _rounded(value.nbytes) if choice is None else choice.size
        sizes.update(dict.fromkeys(names[1:], 0))
    return sizes


def _distinct(plan: Plan) -> dict[bytes, tuple[np.ndarray, list[str]]]:
    """By content: the array that has it first, and the names of all that have it."""
    found: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for constant in plan.constants:
        value = np.ascontiguousarray(constant.value)
        found.setdefault(value.tobytes(), (value, []))[1].append(constant.name)
    return found


def _choice(value: np.ndarray) -> Choice | None:
    """How to code `value`; None where it is stored as it is."""
    choice = smallest(value)
    return choice if choice.size < _WORTH * _rounded(value.nbytes) else None


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data + bytes(_rounded(len(data)) - len(data))
