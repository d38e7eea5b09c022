"""The pattern notation `[n:m/]BKxBN`: which weights are removed together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgeprune.errors import EdgepruneError

Structure = Literal["block", "channel", "head", "layer"]
"""What is removed as one: a block of weights, or with all that depends on it a channel, a head, a residual branch."""

_BLOCK = re.compile(r"(\d+)x(\d+)")
_BALANCE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class Pattern:
    """A removal pattern.

    A block is `block_k` consecutive entries along the reduction axis (input channels of one kernel tap) times
    `block_n` consecutive output channels. Where `keep` and `group` are set, `keep` of every `group` blocks
    along the reduction axis stay. Any other `structure` than "block" is removed whole, and has no block size.
    """

    block_k: int = 1
    block_n: int = 1
    keep: int | None = None
    group: int | None = None
    structure: Structure = "block"

    def __str__(self) -> str:
        if self.structure != "block":
            return self.structure
        block = f"{self.block_k}x{self.block_n}"
        if self.group is None:
            return block
        balance = f"{self.keep}:{self.group}"
        return balance if (self.block_k, self.block_n) == (1, 1) else f"{balance}/{block}"

    @property
    def density(self) -> float | None:
        """The kept share that the pattern itself fixes, or None where it leaves the level open."""
        return None if self.group is None or self.keep is None else self.keep / self.group


@dataclass(frozen=True)
class Level:
    """What a layer keeps: the share `density` of its blocks, in `pattern`."""

    pattern: Pattern
    density: float


def parse_pattern(text: str) -> Pattern:
    """Read `1x1`, `4x16`, `2:4`, `2:4/1x16`, `channel`, `head` or `layer`.

    Raises EdgepruneError (pattern-unknown, usage) where the text is no pattern.
    """
    structure = next((name for name in get_args(Structure)[1:] if name == text.strip()), None)
    if structure is not None:
        return Pattern(structure=structure)
    balance_text, slash, block_text = text.strip().rpartition("/")
    if not slash and _BALANCE.fullmatch(block_text):
        balance_text, block_text = block_text, "1x1"
    block = _BLOCK.fullmatch(block_text)
    balance = _BALANCE.fullmatch(balance_text)
    if block is None or (balance_text and balance is None) or (slash and not balance_text):
        raise _unknown(text)
    block_k, block_n = int(block[1]), int(block[2])
    keep, group = (int(balance[1]), int(balance[2])) if balance else (None, None)
    if block_k < 1 or block_n < 1 or (keep is not None and group is not None and not 0 < keep <= group):
        raise _unknown(text)
    return Pattern(block_k, block_n, keep, group)


def _unknown(text: str) -> EdgepruneError:
    return EdgepruneError(
        "pattern-unknown",
        f"'{text}' is not a pruning pattern",
        where="--pattern",
        hint="write 1x1, a block such as 1x16 or 4x16, a balance such as 2:4, both: 2:4/1x16, or channel, head, layer",
        exit_code=2,
    )
