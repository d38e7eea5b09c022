"""Canonical Huffman codes: the codebook of words that repeat, and the bits that tell which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_SYMBOLS = 1024
_LONGEST_CODE = 12
_SAMPLE = 8192
_TABLE = 128


@dataclass(frozen=True)
class Codebook:
    """The distinct words, by length of code in bits, then by value."""

    symbols: np.ndarray
    lengths: np.ndarray

    @property
    def head(self) -> bytes:
        """The codebook itself: the longest length, how many codes have each, the words.

        For bytes where that is shorter: 0, then the length of each of the 256 in four bits, 0 for those not there.
        """
        longest = int(self.lengths.max())
        counts = np.bincount(self.lengths, minlength=longest + 1)[1:].astype("<u2")
        listed = bytes([longest]) + counts.tobytes() + self.symbols.tobytes()
        if self.symbols.itemsize > 1 or len(listed) <= 1 + _TABLE:
            return listed
        lengths = np.zeros(2 * _TABLE, np.uint8)
        lengths[self.symbols] = self.lengths
        return bytes(1) + (lengths[::2] << 4 | lengths[1::2]).tobytes()

    def size(self, words: np.ndarray) -> int:
        """Bytes of the codes of `words`, which must all be there."""
        symbols, counts = np.unique(words, return_counts=True)
        return -(-int(counts @ self.lengths[self._places(symbols)]) // 8)

    def codes(self, words: np.ndarray) -> bytes:
        """The codes of `words` one after another."""
        places = self._places(words)
        return packed_bits(_canonical(self.lengths)[places], self.lengths[places])

    def words(self, data: bytes, count: int) -> np.ndarray:
        """The first `count` words that `data` tells."""
        pairs = zip(self.lengths.tolist(), _canonical(self.lengths).tolist(), strict=True)
        names = {pair: index for index, pair in enumerate(pairs)}
        found: list[int] = []
        code = length = 0
        for bit in np.unpackbits(np.frombuffer(data, np.uint8)).tolist():
            if len(found) == count:
                break
            code, length = code << 1 | bit, length + 1
            if (length, code) in names:
                found.append(names[length, code])
                code = length = 0
        return self.symbols[found].copy()

    def _places(self, words: np.ndarray) -> np.ndarray:
        by_value = np.argsort(self.symbols)
        places: np.ndarray = by_value[np.searchsorted(self.symbols[by_value], words)]
        return places


def codebook_of(words: np.ndarray) -> Codebook | None:
    """The codebook that tells `words` in the fewest bits; None where they are too few or too many different ones."""
    if np.unique(words[:_SAMPLE]).size > _MOST_SYMBOLS:
        return None
    symbols, counts = np.unique(words, return_counts=True)
    if not 2 <= symbols.size <= _MOST_SYMBOLS:
        return None
    lengths = np.array(code_lengths(counts.tolist(), _LONGEST_CODE))
    order = np.lexsort((symbols, lengths))
    return Codebook(symbols[order], lengths[order])


def read_codebook(data: bytes, dtype: np.dtype) -> tuple[Codebook, int]:
    """The codebook at the start of `data`, and its bytes."""
    longest = data[0]
    if longest == 0:
        table = np.frombuffer(data, np.uint8, _TABLE, 1)
        every = np.stack([table >> 4, table & 15], 1).ravel().astype(np.int64)
        order = np.argsort(every, kind="stable")[np.count_nonzero(every == 0) :]
        return Codebook(order.astype(np.uint8), every[order]), 1 + _TABLE
    counts = np.frombuffer(data, "<u2", longest, 1)
    start = 1 + 2 * longest
    symbols = np.frombuffer(data, dtype, int(counts.sum()), start)
    return Codebook(symbols, np.repeat(np.arange(1, longest + 1), counts)), start + symbols.nbytes


def code_lengths(counts: Sequence[int], longest: int) -> list[int]:
    """Bits of each symbol in the best prefix code without a code of more than `longest` bits.

    Package-merge (Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990).
    """
    leaves: list[tuple[int, tuple[int, ...]]] = sorted((count, (symbol,)) for symbol, count in enumerate(counts))
    merged = leaves
    for _ in range(longest - 1):
        pairs = zip(merged[::2], merged[1::2], strict=False)
        packages = [(left[0] + right[0], left[1] + right[1]) for left, right in pairs]
        merged = sorted(leaves + packages, key=lambda package: package[0])
    lengths = [0] * len(counts)
    for _, symbols in merged[: 2 * len(counts) - 2]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def _canonical(lengths: np.ndarray) -> np.ndarray:
    """The codes of ascending `lengths`."""
    starts = np.cumsum(1 << (_LONGEST_CODE - lengths)) - (1 << (_LONGEST_CODE - lengths))
    codes: np.ndarray = (starts >> (_LONGEST_CODE - lengths)).astype(np.uint64)
    return codes


def packed_bits(codes: np.ndarray, lengths: np.ndarray) -> bytes:
    """The lowest `lengths` bits of `codes` one after another, the last byte filled with zeros."""
    if not codes.size:
        return b""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    bits = np.zeros(int(ends[-1]), np.uint8)
    for place in range(int(lengths.max())):
        there = lengths > place
        shifts = (lengths[there] - 1 - place).astype(np.uint64)
        bits[starts[there] + place] = (codes[there] >> shifts) & np.uint64(1)
    return np.packbits(bits).tobytes()
