"""How packed constants are stored: a few lossless codings, the smallest of which is taken for each array.

An array is a row of unsigned words of 1, 2, 4 or 8 bytes. Its record is six bytes (coding and word size, stride of the
differences, number of words) and what the coding writes; numbers are little-endian, bits go from the highest down.
Arrays that are alike may share a codebook: a record of its own, which the others follow. kernels/runtime/expand.c reads
records on the device; `decode` here is its oracle.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeprune.lowering.huffman import Codebook, codebook_of, packed_bits, read_codebook

_HEAD = struct.Struct("<BBI")
_MAX_WORDS = 2**31
_MOST_BITS = 32
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

    `size` counts the bytes of the record. Number SHARED stands for codes of the codebook that arrays share.
    """

    number: int
    stride: int
    size: int


def smallest(value: np.ndarray, shared: Codebook | None = None) -> Choice:
    """The coding that stores `value` in the fewest bytes; differences are tried where it holds wide integers.

    `shared`, if there is one, must have every word of `value`.
    """
    words = words_of(value)
    strides = (0, *_STRIDES) if value.dtype.kind in "iu" and value.itemsize > 1 else (0,)
    found = [] if shared is None else [Choice(SHARED, 0, _HEAD.size + shared.size(words))]
    for stride in strides:
        rest = differences(words, stride)
        sizes = [coding.size(rest) for coding in CODINGS]
        found += [Choice(number, stride, _HEAD.size + size) for number, size in enumerate(sizes) if size is not None]
    return min(found, key=lambda choice: choice.size)


def encode(value: np.ndarray, choice: Choice, shared: Codebook | None = None) -> bytes:
    """The record of `value`."""
    words = words_of(value)
    head = _head(choice.number, words, choice.stride, words.size)
    if choice.number == SHARED:
        assert shared is not None
        return head + shared.codes(words)
    return head + CODINGS[choice.number].encode(differences(words, choice.stride))


def encode_codebook(shared: Codebook) -> bytes:
    """The record of the codebook that later records share."""
    return _head(_CODEBOOK, shared.symbols, 0, 0) + shared.head


def decode(record: bytes, shared: Codebook | None = None) -> np.ndarray:
    """The words of a record that `encode` made."""
    kind, stride, count = _HEAD.unpack_from(record)
    dtype = np.dtype(f"u{1 << (kind >> 4)}")
    if kind & 15 == SHARED:
        assert shared is not None
        return shared.words(record[_HEAD.size :], count)
    words = CODINGS[kind & 15].decode(record[_HEAD.size :], count, dtype)
    for first in range(stride):
        words[first::stride] = np.cumsum(words[first::stride], dtype=dtype)
    return words


def _head(number: int, words: np.ndarray, stride: int, count: int) -> bytes:
    return _HEAD.pack(number | (words.itemsize.bit_length() - 1) << 4, stride, count)


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
    return base.tobytes() + bytes([bits]) + packed_bits(codes, np.full(words.size, bits))


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


def _huffman_size(words: np.ndarray) -> int | None:
    book = codebook_of(words)
    return None if book is None else len(book.head) + book.size(words)


def _huffman(words: np.ndarray) -> bytes:
    book = codebook_of(words)
    assert book is not None
    return book.head + book.codes(words)


def _huffman_back(data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    book, start = read_codebook(data, dtype)
    return book.words(data[start:], count)


CODINGS = (
    Coding("copy", _copy_size, _copy, _copy_back),
    Coding("narrow", _narrow_size, _narrow, _narrow_back),
    Coding("bitmap", _bitmap_size, _bitmap, _bitmap_back),
    Coding("huffman", _huffman_size, _huffman, _huffman_back),
)
"""By the number in a record: words as they are; distances from the lowest in as few bits as hold them; a bit a word
that tells zeros, and the others; a codebook of the different words and canonical Huffman codes for which is which."""

SHARED = len(CODINGS)
_CODEBOOK = SHARED + 1
