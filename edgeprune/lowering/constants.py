"""The constants of a plan in one piece: those stored as they are, then the records of the coded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.lowering.arena import ALIGNMENT
from edgeprune.lowering.coding import SHARED, Choice, encode, encode_codebook, smallest, words_of
from edgeprune.lowering.huffman import Codebook, codebook_of
from edgeprune.lowering.plan import Plan

_WORTH = 31 / 32
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
    distinct = _distinct(plan)
    shared = _shared_codebook([value for value, _ in distinct.values()])
    records = [] if shared is None else [encode_codebook(shared)]
    stored = expanded = 0
    for first, (value, names) in distinct.items():
        choice = _choice(value, shared)
        if choice is None:
            plain.update(dict.fromkeys(names, stored))
            pieces.append(_padded(first))
            stored += len(pieces[-1])
        else:
            coded.update(dict.fromkeys(names, expanded))
            records.append(encode(value, choice, shared))
            expanded += _rounded(value.nbytes)
    return Packed(b"".join(pieces + records), stored, plain, coded, expanded)


def stored_sizes(plan: Plan) -> dict[str, int]:
    """Bytes that each constant of `plan` takes in the library, by name; what is stored before counts as nothing.

    The first that uses the codebook that several share counts with it.
    """
    sizes = {}
    distinct = _distinct(plan)
    shared = _shared_codebook([value for value, _ in distinct.values()])
    book = 0 if shared is None else len(encode_codebook(shared))
    for value, names in distinct.values():
        choice = _choice(value, shared)
        sizes[names[0]] = _stored(value, choice)
        sizes.update(dict.fromkeys(names[1:], 0))
        if book and choice is not None and choice.number == SHARED:
            sizes[names[0]] += book
            book = 0
    return sizes


def _distinct(plan: Plan) -> dict[bytes, tuple[np.ndarray, list[str]]]:
    """By content: the array that has it first, and the names of all that have it."""
    found: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for constant in plan.constants:
        value = np.ascontiguousarray(constant.value)
        found.setdefault(value.tobytes(), (value, []))[1].append(constant.name)
    return found


def _shared_codebook(values: Sequence[np.ndarray]) -> Codebook | None:
    """A codebook for all weights of one byte; None where every layer does better with its own, or none."""
    weights = [value for value in values if value.dtype == np.int8]
    book = codebook_of(np.concatenate([words_of(value) for value in weights])) if weights else None
    if book is None:
        return None
    alone = sum(_stored(value, _choice(value, None)) for value in weights)
    together = sum(_stored(value, _choice(value, book)) for value in weights)
    return book if together + len(encode_codebook(book)) < alone else None


def _stored(value: np.ndarray, choice: Choice | None) -> int:
    return _rounded(value.nbytes) if choice is None else choice.size


def _choice(value: np.ndarray, shared: Codebook | None) -> Choice | None:
    """How to code `value`; None where it is stored as it is."""
    choice = smallest(value, shared if value.dtype == np.int8 else None)
    return choice if choice.size < _WORTH * _rounded(value.nbytes) else None


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data + bytes(_rounded(len(data)) - len(data))
