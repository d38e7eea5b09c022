"""Codings of constants: numpy's decoders against the arrays, and the device's C against numpy's; damage is noticed."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from library_runner import load
from small_plan import small_plan

from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.coding import (
    CODINGS,
    SHARED,
    Choice,
    decode,
    differences,
    encode,
    encode_codebook,
    smallest,
    words_of,
)
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.huffman import code_lengths, codebook_of, read_codebook
from edgeprune.lowering.link import build_library
from edgeprune.target import load_target

TARGET = load_target("x86-64-v2")
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "float32", "int64", "float64", "bool")
GUARD = 64


@functools.cache
def expander() -> ctypes.CDLL:
    source = (
        '#include "program.h"\n__attribute__((visibility("default"))) int edge_test(const uint8_t *r, size_t n, '
        "uint8_t *m, size_t room) { return edge_expand(r, n, m, room); }"
    )
    plan = small_plan()
    packed = pack_constants(plan)
    sources = {**emit_source(plan, allocate(plan), packed, TARGET), "extra.c": source}
    return load(build_library(plan.functions, sources, packed.blob, TARGET).so)


def expanded(records: bytes, room: int) -> bytes | None:
    """What the C makes of `records`, None where it refuses them; nothing beyond `room` may be touched."""
    memory = np.full(room + 2 * GUARD, 0xA5, np.uint8)
    # A copy of its own: reading beyond it is seen by whoever runs this under a checker.
    given = ctypes.create_string_buffer(records, len(records))
    sizes = ctypes.c_size_t(len(records)), ctypes.c_size_t(room)
    done = expander().edge_test(given, sizes[0], ctypes.c_void_p(memory.ctypes.data + GUARD), sizes[1])
    assert (memory[:GUARD] == 0xA5).all()
    assert (memory[GUARD + room :] == 0xA5).all()
    return memory[GUARD : GUARD + room].tobytes() if done else None


def room_of(value: np.ndarray) -> int:
    return -(-value.nbytes // 64) * 64


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Arrays as kernels have them, and awkward ones."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 700))
    scattered = generator.integers(-127, 128, size) * (generator.random(size) < 0.33)
    offsets = np.sort(generator.choice(5000, min(size, 4000), replace=False))
    shared = generator.standard_normal(generator.integers(1, 40)).astype(np.float32)
    return {
        "scattered": scattered.astype(np.int8),
        "bytes": np.resize(scattered, 4 * size).astype(np.int8),
        "centred": scattered.astype(np.int16),
        "offsets": offsets.astype(np.int32),
        "short offsets": offsets.astype(np.uint16),
        "table": np.stack([np.arange(size), np.full(size, 9), 144 * np.arange(size)], 1).astype(np.int32),
        "shared": generator.choice(shared, size),
        "plain": generator.standard_normal(size).astype(np.float32),
        "sparse": (generator.standard_normal(size) * (generator.random(size) < 0.1)).astype(np.float32),
        "constant": np.full(size, -2.5, np.float32),
        "wide": generator.integers(-(2**62), 2**62, size),
        "none": np.zeros(0, np.int8),
    }


@pytest.mark.parametrize("seed", range(4))
def test_every_coding_gives_back_what_it_took_here_and_in_c(seed: int) -> None:
    for name, value in arrays(seed).items():
        words = words_of(value)
        for number, coding in enumerate(CODINGS):
            for stride in (0, 1, 3):
                size = coding.size(differences(words, stride))
                if size is None:
                    continue
                record = encode(value, Choice(number, stride, size + 6))
                assert len(record) == size + 6, (name, coding.name)
                np.testing.assert_array_equal(decode(record), words, err_msg=f"{name} {coding.name} {stride}")
                found = expanded(record, room_of(value))
                assert found is not None
                assert found[: value.nbytes] == value.tobytes(), (name, coding.name, stride)


@settings(max_examples=60)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 2**64 - 1), max_size=40),
    st.lists(st.integers(0, 39), max_size=200),
)
def test_any_array_comes_back(dtype: str, values: list[int], picks: list[int]) -> None:
    pool = np.array(values or [0], np.uint64)
    words = pool[np.array(picks, int) % pool.size]
    value = words.astype(bool) if dtype == "bool" else words.astype(f"u{np.dtype(dtype).itemsize}").view(dtype)
    choice = smallest(value)
    record = encode(value, choice)
    assert len(record) == choice.size <= 6 + value.nbytes
    assert decode(record).tobytes() == value.tobytes()
    found = expanded(record, room_of(value))
    assert found is not None
    assert found[: value.nbytes] == value.tobytes()


def test_the_smallest_is_what_one_expects() -> None:
    found = {name: CODINGS[smallest(value).number].name for name, value in arrays(0).items()}
    assert found["plain"] == found["wide"] == "copy"
    generator = np.random.default_rng(0)
    sparse = (generator.standard_normal(20_000) * (generator.random(20_000) < 0.2)).astype(np.float32)
    assert CODINGS[smallest(sparse).number].name == "bitmap"
    assert (found["shared"], found["scattered"]) == ("huffman", "bitmap")
    assert found["constant"] == "narrow"
    assert smallest(arrays(0)["table"]).stride == 3
    assert smallest(arrays(0)["offsets"]).stride == 1


def test_scattered_zeros_and_shared_values_become_small() -> None:
    generator = np.random.default_rng(0)
    weights = np.clip(generator.laplace(0, 30, 200_000), -127, 127).astype(np.int8)
    weights[generator.random(weights.size) < 2 / 3] = 0
    assert smallest(weights).size < 0.46 * weights.nbytes
    book = generator.standard_normal(16).astype(np.float32)
    assert smallest(generator.choice(book, 50_000)).size < 50_000 / 2 + 200


@pytest.mark.parametrize("seed", range(5))
def test_code_lengths_are_the_best_within_the_limit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 1000, int(generator.integers(2, 6))).tolist()
    longest = 3

    def codes(lengths: tuple[int, ...]) -> bool:
        return sum(2.0**-length for length in lengths) <= 1

    every = np.stack(np.meshgrid(*[range(1, longest + 1)] * len(counts)), -1).reshape(-1, len(counts))
    best = min(int(lengths @ counts) for lengths in every if codes(tuple(lengths)))
    found = code_lengths(counts, longest)
    assert max(found) <= longest
    assert codes(tuple(found))
    assert np.dot(found, counts) == best


def test_steep_counts_keep_to_the_longest_code() -> None:
    value = np.repeat(np.arange(20, dtype=np.int8), 2 ** np.arange(20) // 8 + 1)
    record = encode(value, Choice(3, 0, 0))
    np.testing.assert_array_equal(expanded(record, room_of(value))[: value.size], value.tobytes())
    assert record[6] == 12


@pytest.mark.parametrize("spread", [1, 12, 60])
def test_codebooks_of_bytes_are_written_the_shorter_way(spread: int) -> None:
    value = np.rint(np.random.default_rng(spread).normal(0, spread, 4000)).clip(-127, 127).astype(np.int8)
    book = codebook_of(words_of(value))
    assert book is not None
    listed = 1 + 2 * int(book.lengths.max()) + book.symbols.size
    assert len(book.head) == min(listed, 129)
    read, length = read_codebook(book.head + b"rest", np.dtype("u1"))
    assert length == len(book.head)
    np.testing.assert_array_equal(read.symbols, book.symbols)
    np.testing.assert_array_equal(read.lengths, book.lengths)
    record = encode(value, Choice(3, 0, 0))
    found = expanded(record, room_of(value))
    assert found is not None
    assert found[: value.nbytes] == value.tobytes()
    for cut in range(6, len(record), 7):
        assert expanded(record[:cut], room_of(value)) is None
    if record[6] == 0:
        assert expanded(record[:7] + bytes(128) + record[135:], room_of(value)) is None
        assert expanded(record[:7] + b"\x11" * 128 + record[135:], room_of(value)) is None
        assert expanded(record[:7] + b"\xdd" * 128 + record[135:], room_of(value)) is None


def test_arrays_share_a_codebook() -> None:
    generator = np.random.default_rng(0)
    layers = [np.rint(generator.normal(0, 20, size)).astype(np.int8) for size in (300, 64, 1, 511)]
    book = codebook_of(np.concatenate([words_of(layer) for layer in layers]))
    assert book is not None
    choices = [Choice(SHARED, 0, 6 + book.size(words_of(layer))) for layer in layers]
    assert smallest(layers[0], book) == choices[0]
    records = [encode(layer, choice, book) for layer, choice in zip(layers, choices, strict=True)]
    for layer, choice, record in zip(layers, choices, records, strict=True):
        assert len(record) == choice.size
        np.testing.assert_array_equal(decode(record, book), words_of(layer))
    room = sum(map(room_of, layers))
    own = encode(layers[0], Choice(3, 0, 0))
    found = expanded(encode_codebook(book) + b"".join(records) + own + records[0], room + 2 * room_of(layers[0]))
    assert found is not None
    for layer in (*layers, layers[0], layers[0]):
        assert found[: layer.nbytes] == layer.tobytes()
        found = found[room_of(layer) :]
    wide = encode_codebook(codebook_of(np.arange(9, dtype=np.uint16) % 3))
    assert expanded(records[0], room_of(layers[0])) is None
    assert expanded(wide + records[0], room_of(layers[0])) is None
    for length in range(1, len(encode_codebook(book))):
        assert expanded(encode_codebook(book)[:length], 0) is None


@pytest.mark.parametrize("number", range(len(CODINGS)))
def test_cut_records_are_refused(number: int) -> None:
    value = np.random.default_rng(1).integers(-3, 4, 150).astype(np.int16)
    record = encode(value, Choice(number, 0, 0))
    for length in range(1, len(record)):
        assert expanded(record[:length], room_of(value)) is None


def test_a_record_must_fill_its_room_and_no_more() -> None:
    value = np.arange(100, dtype=np.int32)
    record = encode(value, smallest(value))
    assert expanded(record, room_of(value)) is not None
    for room in (0, 64, room_of(value) - 64, room_of(value) + 64):
        assert expanded(record, room) is None
    assert expanded(record * 2, 2 * room_of(value)) is not None
    assert expanded(b"", 0) == b""


@pytest.mark.parametrize(
    ("place", "byte"), [(0, 4), (0, 0x40), (1, 5), (5, 255), (6, 0), (6, 13), (7, 1)], ids=lambda value: str(value)
)
def test_impossible_heads_are_refused(place: int, byte: int) -> None:
    value = np.random.default_rng(1).integers(-3, 4, 150).astype(np.int16)
    record = bytearray(encode(value, Choice(3, 0, 0)))
    record[place] = byte
    assert expanded(bytes(record), room_of(value)) is None


@pytest.mark.parametrize("seed", range(8))
def test_mutated_records_never_reach_beyond_their_room(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for name, value in arrays(seed).items():
        for number, coding in enumerate(CODINGS):
            stride = int(generator.integers(0, 5))
            if coding.size(differences(words_of(value), stride)) is None:
                continue
            record = encode(value, Choice(number, stride, 0))
            for _ in range(25):
                mutated = np.frombuffer(record, np.uint8).copy()
                places = generator.integers(0, mutated.size if generator.random() < 0.5 else min(40, mutated.size), 3)
                mutated[places] = generator.integers(0, 256, 3)
                cut = mutated[: generator.integers(1, mutated.size + 1)] if generator.random() < 0.3 else mutated
                found = expanded(cut.tobytes(), room_of(value))
                assert found is None or len(found) == room_of(value), name
