"""How packed constants are stored: a few lossless codings, the smallest of which is taken for each array.

An array is a row of unsigned words of 1, 2, 4 or 8 bytes. Its record is six bytes (coding and word size, stride of the
differences, number of words) and what the coding writes; numbers are little-endian, bits go from the highest down.
kernels/runtime/expand.c reads records on the device; `decode` here is its oracle.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_HEAD = struct.Struct("<BBI")
_MAX_WORDS = 2**31
_MOST_SYMBOLS = 1024
_LONGEST_CODE = 12
_MOST_BITS = 32
_SAMPLE = 8192
_STRIDES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Coding:
    """One way to store words.

    `size` is the number of bytes that `encode` gives, None where it cannot store these words; `decode` takes the
    bytes, the number of words and their dtype.
    """

    name: str
    size: Callable[[np.ndarray], int | None]
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, int, np.dtype], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """The coding of one array: `CODINGS[number]`, of differences at `stride` (0: of the words as they are).

    `size` counts the bytes of the record.
    """

    number: int
    stride: int
    size: int


def smallest(value: np.ndarray) -> Choice:
    """The coding that stores `value` in the fewest bytes; differences are tried where it holds wide integers."""
    words = words_of(value)
    strides = (0, *_STRIDES) if value.dtype.kind in "iu" and value.itemsize > 1 else (0,)
    found = []
    for stride in strides:
        rest = differences(words, stride)
        sizes = [coding.size(rest) for coding in CODINGS]
        found += [Choice(number, stride, _HEAD.size + size) for number, size in enumerate(sizes) if size is not None]
    return min(found, key=lambda choice: choice.size)


def encode(value: np.ndarray, choice: Choice) -> bytes:
    """The record of `value`."""
    words = words_of(value)
    log = words.itemsize.bit_length() - 1
    head = _HEAD.pack(choice.number | log << 4, choice.stride, words.size)
    return head + CODINGS[choice.number].encode(differences(words, choice.stride))


def decode(record: bytes) -> np.ndarray:
    """The words of a record that `encode` made."""
    kind, stride, count = _HEAD.unpack_from(record)
    dtype = np.dtype(f"u{1 << (kind >> 4)}")
    words = CODINGS[kind & 15].decode(record[_HEAD.size :], count, dtype)
    for first in range(stride):
        words[first::stride] = np.cumsum(words[first::stride], dtype=dtype)
    return words


def words_of(value: np.ndarray) -> np.ndarray:
    """The bytes of an array, row-major, as unsigned words of its item size."""
    flat = np.ascontiguousarray(value).reshape(-1)
    size = flat.itemsize if flat.itemsize in (1, 2, 4, 8) else 1
    words = flat.view(f"u{size}")
    assert words.size < _MAX_WORDS
    return words


def differences(words: np.ndarray, stride: int) -> np.ndarray:
    """Each word less the one `stride` before it, modulo the word size; the first `stride` stay."""
    if stride == 0:
        return words
    rest = words.copy()
    rest[stride:] -= words[:-stride]
    return rest


def _copy_size(words: np.ndarray) -> int:
    return words.nbytes


def _copy(words: np.ndarray) -> bytes:
    return words.tobytes()


def _copy_back(data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(data, dtype, count).copy()


def _span(words: np.ndarray) -> tuple[int, int]:
    """The lowest word, as a signed number, and the bits that hold all distances from it."""
    signed = words.view(f"i{words.itemsize}")
    low, high = (int(signed.min()), int(signed.max())) if words.size else (0, 0)
    return low, (high - low).bit_length()


def _narrow_size(words: np.ndarray) -> int | None:
    bits = _span(words)[1]
    return words.itemsize + 1 + -(-words.size * bits // 8) if bits <= _MOST_BITS else None


def _narrow(words: np.ndarray) -> bytes:
    low, bits = _span(words)
    base = np.array(low, f"i{words.itemsize}").view(words.dtype)
    codes = (words - base).astype(np.uint64)
    return base.tobytes() + bytes([bits]) + _packed(codes, np.full(words.size, bits))


def _narrow_back(data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    base, bits = np.frombuffer(data, dtype, 1), data[dtype.itemsize]
    stream = np.unpackbits(np.frombuffer(data[dtype.itemsize + 1 :], np.uint8))[: count * bits].reshape(count, bits)
    return (stream @ (np.uint64(1) << np.arange(bits, dtype=np.uint64)[::-1])).astype(dtype) + base


def _bitmap_size(words: np.ndarray) -> int:
    return -(-words.size // 8) + words.itemsize * int(np.count_nonzero(words))


def _bitmap(words: np.ndarray) -> bytes:
    return np.packbits(words != 0).tobytes() + words[words != 0].tobytes()


def _bitmap_back(data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    head = -(-count // 8)
    there = np.unpackbits(np.frombuffer(data, np.uint8, head))[:count].astype(bool)
    words = np.zeros(count, dtype)
    words[there] = np.frombuffer(data, dtype, int(there.sum()), head)
    return words


@dataclass(frozen=True)
class _Codebook:
    """The distinct words by length of code, then by value; how often each occurs, and the bits of its code."""

    symbols: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray


def _codebook(words: np.ndarray) -> _Codebook | None:
    """The canonical Huffman codebook of `words`; None where they are too few or too many different ones."""
    if np.unique(words[:_SAMPLE]).size > _MOST_SYMBOLS:
        return None
    symbols, counts = np.unique(words, return_counts=True)
    if not 2 <= symbols.size <= _MOST_SYMBOLS:
        return None
    lengths = np.array(code_lengths(counts.tolist(), _LONGEST_CODE))
    order = np.lexsort((symbols, lengths))
    return _Codebook(symbols[order], counts[order], lengths[order])


def code_lengths(counts: Sequence[int], longest: int) -> list[int]:
    """Bits of each symbol in the best prefix code without a code of more than `longest` bits.

    Package-merge (Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990).
    """
    leaves = sorted((count, (symbol,)) for symbol, count in enumerate(counts))
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


def _huffman_size(words: np.ndarray) -> int | None:
    book = _codebook(words)
    if book is None:
        return None
    head = 1 + 2 * int(book.lengths.max()) + book.symbols.nbytes
    return head + -(-int(book.counts @ book.lengths) // 8)


def _huffman(words: np.ndarray) -> bytes:
    book = _codebook(words)
    assert book is not None
    by_value = np.argsort(book.symbols)
    places = by_value[np.searchsorted(book.symbols[by_value], words)]
    longest = int(book.lengths.max())
    counts = np.bincount(book.lengths, minlength=longest + 1)[1:].astype("<u2")
    head = bytes([longest]) + counts.tobytes() + book.symbols.tobytes()
    return head + _packed(_canonical(book.lengths)[places], book.lengths[places])


def _huffman_back(data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    longest = data[0]
    counts = np.frombuffer(data, "<u2", longest, 1)
    head = 1 + 2 * longest
    symbols = np.frombuffer(data, dtype, int(counts.sum()), head)
    lengths = np.repeat(np.arange(1, longest + 1), counts)
    names = {pair: index for index, pair in enumerate(zip(lengths.tolist(), _canonical(lengths).tolist(), strict=True))}
    found: list[int] = []
    code = length = 0
    for bit in np.unpackbits(np.frombuffer(data[head + symbols.nbytes :], np.uint8)).tolist():
        if len(found) == count:
            break
        code, length = code << 1 | bit, length + 1
        if (length, code) in names:
            found.append(names[length, code])
            code = length = 0
    return symbols[found].copy()


def _packed(codes: np.ndarray, lengths: np.ndarray) -> bytes:
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


CODINGS = (
    Coding("copy", _copy_size, _copy, _copy_back),
    Coding("narrow", _narrow_size, _narrow, _narrow_back),
    Coding("bitmap", _bitmap_size, _bitmap, _bitmap_back),
    Coding("huffman", _huffman_size, _huffman, _huffman_back),
)
"""By the number in a record: words as they are; distances from the lowest in as few bits as hold them; a bit a word
that tells zeros, and the others; a codebook of the different words and canonical Huffman codes for which is which."""
