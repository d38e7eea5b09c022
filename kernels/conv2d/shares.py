"""How the pixels and the output channels of a convolution are shared out to tiles and blocks."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_VECTORS = 4


@dataclass(frozen=True)
class Split:
    """`count` pixels cut into `tiles` pieces as even as can be: `longer` of `size` + 1, then the rest of `size`."""

    count: int
    tiles: int

    @property
    def size(self) -> int:
        """Pixels of a shorter piece."""
        return self.count // self.tiles

    @property
    def longer(self) -> int:
        """How many pieces have one pixel more."""
        return self.count % self.tiles

    @property
    def most(self) -> int:
        """Pixels of the largest piece."""
        return self.size + (self.longer > 0)

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """The sizes that there are, each with how many pieces have it."""
        sizes = [(self.size + 1, self.longer), (self.size, self.tiles - self.longer)]
        return [(size, count) for size, count in sizes if count]


@dataclass(frozen=True)
class Channels:
    """A share of a group's output channels: `blocks` blocks of `vectors` from `start` on, `valid` stored of each."""

    start: int
    blocks: int
    vectors: tuple[int, ...]
    valid: int


def channel_splits(outputs: int, lanes: int, narrowest: int = 1) -> list[tuple[Channels, ...]]:
    """The ways to cut a group's output channels into equal blocks and one narrower rest.

    The last vector of the rest has a power of two of lanes, `narrowest` or more.
    """
    splits = []
    for vectors in range(1, _MOST_VECTORS + 1):
        width = vectors * lanes
        blocks, rest = divmod(outputs, width)
        if not blocks and vectors > 1 and rest <= width - lanes:
            continue
        main = (Channels(0, blocks, (lanes,) * vectors, width),) if blocks else ()
        tail = (Channels(blocks * width, 1, _rest_vectors(rest, lanes, narrowest), rest),) if rest else ()
        splits.append(main + tail)
    return splits


def _rest_vectors(channels: int, lanes: int, narrowest: int) -> tuple[int, ...]:
    whole, rest = divmod(channels, lanes)
    return (lanes,) * whole + ((max(narrowest, 1 << (rest - 1).bit_length()),) if rest else ())


def stored_pieces(valid: int, lanes: int) -> list[tuple[int, int]]:
    """The runs (first, count) in which `valid` of a vector's `lanes` are stored: whole, or powers of two."""
    if valid == lanes:
        return [(0, lanes)]
    pieces, first = [], 0
    for count in (8, 4, 2, 1):
        if valid - first >= count:
            pieces.append((first, count))
            first += count
    return pieces
