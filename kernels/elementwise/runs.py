"""Lists of channels as runs that vectors can copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHORTEST_STRIDED = 4


@dataclass(frozen=True)
class Run:
    """Output channels [first, first + length): from `source` on, `step` apart; zeros where `empty`.

    With `ways` 2 they come in turns from `source` and from `apart` channels after it.
    """

    first: int
    length: int
    source: int
    step: int = 1
    ways: int = 1
    apart: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is read."""
        return self.step == 0


def channel_runs(channels: Sequence[int]) -> list[Run]:
    """Cut `channels` (-1: zeros) into runs: zeros, neighbours, every second one, or two runs of neighbours in turns."""
    runs: list[Run] = []
    position = 0
    while position < len(channels):
        run = _run(channels, position)
        runs.append(run)
        position += run.length
    return runs


def _run(channels: Sequence[int], first: int) -> Run:
    source = channels[first]
    if source < 0:
        return Run(first, _length(channels, first, 1, 0), 0, 0)
    straight = _length(channels, first, 1, 1)
    strided = _length(channels, first, 1, 2)
    apart = channels[first + 1] - source if first + 1 < len(channels) else 0
    turns = min(_length(channels, first, 2, 1), _length(channels, first + 1, 2, 1) if apart > 1 else 0)
    if turns >= SHORTEST_STRIDED and 2 * turns > max(straight, strided) and channels[first + 1] >= 0:
        return Run(first, 2 * turns, source, ways=2, apart=apart)
    if strided >= SHORTEST_STRIDED and strided > straight:
        return Run(first, strided, source, 2)
    return Run(first, straight, source)


def _length(channels: Sequence[int], first: int, pace: int, step: int) -> int:
    """How many channels from `first` on, `pace` positions apart, go up by `step`."""
    count = 1
    while first + count * pace < len(channels) and channels[first + count * pace] == channels[first] + count * step:
        count += 1
    return count
