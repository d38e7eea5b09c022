"""Which runs of instructions an emulated program executed in each marked region, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import EdgepruneError

Code = tuple[int, ...]
"""Instructions that are executed one after the other, as 32-bit words."""

Executed = Mapping[Code, int]
"""How often each of them was executed in one region."""


@dataclass(frozen=True)
class Block:
    """A run of instructions where it lies in the emulated program's memory."""

    address: int
    code: Code


def read_blocks(path: Path) -> list[dict[Block, int]]:
    """How often each block was executed in each marked region, in order; those that were not are left out.

    Raises EdgepruneError (emulator-failed) where the counter wrote none.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        blocks = {int(line[1]): _block(line) for line in lines if line[0] == "block"}
        regions: list[Counter[Block]] = []
        for line in lines:
            if line[0] == "region":
                regions.append(Counter())
            elif line[0] != "block":
                regions[-1][blocks[int(line[1])]] += int(line[0])
    except (OSError, ValueError, LookupError) as error:
        what = f"the emulator noted no executed blocks ({type(error).__name__})"
        hint = "a disk that is full may be the reason; run it again"
        raise EdgepruneError("emulator-failed", what, where="--board", hint=hint) from error
    return [dict(region) for region in regions]


def by_code(region: Mapping[Block, int]) -> dict[Code, int]:
    """The same with blocks of equal instructions added up, wherever they lie."""
    found: Counter[Code] = Counter()
    for block, count in region.items():
        found[block.code] += count
    return dict(found)


def _block(line: list[str]) -> Block:
    return Block(int(line[2], 16), tuple(int(word, 16) for word in line[3:]))
