"""Which of several ways to compute an int8 product is taken: by its instructions, and by the bytes that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_WORTH = 0.9
"""A way's own code is taken where it needs no more than this share of the instructions of shared code."""

_LEAST_SAVED = 20_000.0
"""And where it saves as many instructions: 20 for each byte that it is expected to take."""

_BYTE = 100.0
"""Instructions that a byte of constants may save: small networks take about as many for each of their bytes."""

_KIND = 16_000.0
"""What shared code must save where no layer before has it: 20 instructions for each of its bytes."""

Way = TypeVar("Way")


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """A way with the instructions of one run, the bytes of its constants, and whether layers share its code.

    `known`: a layer before has that code.
    """

    instructions: float
    bytes: int
    way: Way
    shared: bool
    known: bool = False

    @property
    def price(self) -> float:
        """Instructions with bytes as instructions."""
        return self.instructions + _BYTE * self.bytes + (0.0 if self.known else _KIND)


def cheapest(choices: Sequence[Choice[Way]]) -> Choice[Way]:
    """The cheapest of the ways whose code is shared, unless one with code of its own is worth that."""
    best = [
        min(found, key=lambda choice: choice.price)
        for found in ([choice for choice in choices if choice.shared == shared] for shared in (False, True))
        if found
    ]
    if len(best) == 2:
        own, common = best
        if own.instructions > min(_WORTH * common.instructions, common.instructions - _LEAST_SAVED):
            return common
    return best[0]
