"""The emulator against this machine, instruction by instruction, and beyond what it has against numpy."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path

import decode
import emulation
import numpy as np
import pytest
import single

from edgeprune.target import host_cpu_flags

NATIVE = """
vaddps ymm0, ymm1, ymm2 | vaddss xmm0, xmm1, xmm2 | vdivps xmm0, xmm1, xmmword ptr [rsi + 64]
vmaxps ymm0, ymm1, ymm2 | vminps ymm0, ymm1, ymm2 | vsqrtps ymm0, ymm1 | vsqrtss xmm0, xmm1, xmm2
vfmadd231ps ymm0, ymm1, ymmword ptr [rsi + 4] | vfmadd132ss xmm0, xmm1, xmm2 | vfmsub213ps ymm0, ymm1, ymm2
vfnmadd231ps ymm0, ymm1, ymm2 | vroundps ymm0, ymm1, 9 | vroundps ymm0, ymm1, 12 | vroundps xmm0, xmm1, 10
vcvtdq2ps ymm0, ymm1 | vcvtps2dq ymm0, ymm1 | vcvttps2dq ymm0, ymm1 | vcvtsi2ss xmm0, xmm1, eax
vcvtsi2ss xmm0, xmm1, dword ptr [rsi + 64] | vcvttss2si eax, xmm1 | vcvtss2si rax, xmm1 | vcvtps2ph xmm0, ymm1, 0
vcvtph2ps ymm0, xmm1 | vucomiss xmm1, xmm2 | vcmpltps ymm0, ymm1, ymm2 | vcmpneqps ymm0, ymm1, ymm2
vblendvps ymm0, ymm1, ymm2, ymm3 | vpblendvb ymm0, ymm1, ymm2, ymm3 | vblendps ymm0, ymm1, ymm2, 0x5a
vpblendw ymm0, ymm1, ymm2, 0xaa | vinsertps xmm0, xmm1, xmm2, 0x9c | vinsertps xmm0, xmm1, dword ptr [rsi + 64], 0x20
vinsertf128 ymm0, ymm1, xmm2, 1 | vextractf128 xmm0, ymm1, 1 | vperm2f128 ymm0, ymm1, ymm2, 0x38
vpermps ymm0, ymm1, ymm2 | vpermq ymm0, ymm1, 0x39 | vpermilps ymm0, ymm1, ymm2 | vshufps ymm0, ymm1, ymm2, 0x6c
vshufpd ymm0, ymm1, ymm2, 6 | vunpcklps ymm0, ymm1, ymm2 | vunpckhpd ymm0, ymm1, ymm2 | vpunpcklwd ymm0, ymm1, ymm2
vpunpckhbw ymm0, ymm1, ymm2 | vpshufb ymm0, ymm1, ymm2 | vpshufd ymm0, ymm1, 0x1b | vpshuflw ymm0, ymm1, 0x1b
vpalignr ymm0, ymm1, ymm2, 5 | vpsrldq ymm0, ymm1, 3 | vpackssdw ymm0, ymm1, ymm2 | vpackuswb ymm0, ymm1, ymm2
vpmaddwd ymm0, ymm1, ymm2 | vpmaddubsw ymm0, ymm1, ymm2 | vpmulhrsw ymm0, ymm1, ymm2 | vpmuludq ymm0, ymm1, ymm2
vpmulld ymm0, ymm1, ymm2 | vpaddd ymm0, ymm1, ymm2 | vpaddsw ymm0, ymm1, ymm2 | vpsubusb ymm0, ymm1, ymm2
vpminsd ymm0, ymm1, ymm2 | vpmaxub ymm0, ymm1, ymm2 | vpabsw ymm0, ymm1 | vphminposuw xmm0, xmm1
vpsadbw ymm0, ymm1, ymm2 | vpslld ymm0, ymm1, 23 | vpsrad ymm0, ymm1, xmmword ptr [rsi + 64]
vpsrlvd ymm0, ymm1, ymm2 | vpsraw ymm0, ymm1, 3 | vpmovsxbw ymm0, xmmword ptr [rsi + 64]
vpmovzxbd ymm0, qword ptr [rsi + 64] | vpmovsxwd ymm0, xmm1 | vpcmpeqb ymm0, ymm1, ymm2 | vpcmpgtd ymm0, ymm1, ymm2
vpmovmskb eax, ymm1 | vmovmskps eax, ymm1 | vptest ymm1, ymm2 | vmaskmovps ymm0, ymm1, ymmword ptr [rsi + 64]
vpmaskmovd ymmword ptr [rsi + 64], ymm1, ymm2 | vmovshdup ymm0, ymm1 | vmovlps qword ptr [rsi + 64], xmm1
vmovhpd xmm0, xmm1, qword ptr [rsi + 64] | vmovq xmm0, xmm1 | vmovd xmm0, eax | vmovss xmm0, xmm1, xmm2
vmovss xmm0, dword ptr [rsi + 64] | vmovsd xmm0, qword ptr [rsi + 64] | vmovlhps xmm0, xmm1, xmm2
vpextrb byte ptr [rsi + 64], xmm1, 9 | vpinsrw xmm0, xmm1, eax, 5 | vpextrq rax, xmm1, 1 | vzeroupper
vbroadcastss ymm0, xmm1 | vbroadcasti128 ymm0, xmmword ptr [rsi + 64] | vpbroadcastw ymm0, word ptr [rsi + 64]
vandnps ymm0, ymm1, ymm2 | vpxor ymm0, ymm1, ymm2 | vmovaps ymm0, ymmword ptr [rsi + 64]
vmovdqu ymmword ptr [rsi + 68], ymm1
"""
"""What the compiler takes of AVX, AVX2, FMA and F16C, with operands that lie wherever they may."""


def texts(block: str) -> list[str]:
    return [text.strip() for line in block.strip().splitlines() for text in line.split("|")]


@pytest.fixture(scope="module")
def both() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """Every instruction of NATIVE, for this machine and for the emulator."""
    if not host_cpu_flags().issuperset(("avx2", "fma", "f16c")):
        pytest.skip("this machine has no AVX2 to compare with")
    built = single.library(texts(NATIVE), wide=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "native.so")
        path.write_bytes(built)
        return ctypes.CDLL(str(path)), emulation.load(built)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit by bit, where NaNs are all alike."""
    return np.array_equal(a, b) or np.array_equal(
        np.ascontiguousarray(a).view(np.float32), np.ascontiguousarray(b).view(np.float32), equal_nan=True
    )


@pytest.mark.parametrize("number", range(len(texts(NATIVE))), ids=texts(NATIVE))
def test_this_machine_does_the_same(both, number):
    native, emulated = (getattr(library, f"i{number}") for library in both)
    for seed in range(12):
        state = single.random_state(seed, floats=seed % 2 == 0)
        expected, found = single.run(native, state), single.run(emulated, state)
        assert same(expected["v"][0][:, :32], found["v"][0][:, :32])
        assert same(expected["memory"][0], found["memory"][0])
        assert expected["rax"] == found["rax"]
        assert expected["flags"] == found["flags"]


def lanes(state: np.ndarray, number: int, dtype: str) -> np.ndarray:
    """Vector `number` before the instruction."""
    return state["v"][0][number].view(dtype)


def dot_bytes(a: np.ndarray) -> np.ndarray:
    total = lanes(a, 0, "i4").astype(np.int64)
    for lane in range(16):
        for i in range(4 * lane, 4 * lane + 4):
            total[lane] += int(lanes(a, 1, "u1")[i]) * int(lanes(a, 2, "i1")[i])
    return total.astype(np.int32)


def dot_words(a: np.ndarray) -> np.ndarray:
    products = lanes(a, 1, "i2").astype(np.int64) * lanes(a, 2, "i2")
    return (lanes(a, 0, "i4") + products[0::2] + products[1::2]).astype(np.int32)


def table(a: np.ndarray) -> np.ndarray:
    return np.concatenate([lanes(a, 0, "u4"), lanes(a, 2, "u4")])[lanes(a, 1, "u4") & 31]


def interleaved(a: np.ndarray) -> np.ndarray:
    x, y = (lanes(a, i, "u2").reshape(4, 8)[:, :4] for i in (1, 2))
    return np.stack([x, y], -1)


def packed(a: np.ndarray) -> np.ndarray:
    blocks = [lanes(a, i, "i4").clip(-(2**15), 2**15 - 1).astype(np.int16).reshape(4, 4) for i in (1, 2)]
    return np.concatenate(blocks, 1)


def selected(a: np.ndarray, count: int) -> np.ndarray:
    """The lanes that k1 selects."""
    return np.array([int(a["k1"][0]) >> i & 1 for i in range(count)], bool)


def doubled(a: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Vector 1 added to itself where k1 selects, elsewhere `other`."""
    return np.where(selected(a, 16), lanes(a, 1, "u4") * np.uint32(2), other)


def extended(value: np.ndarray) -> np.ndarray:
    """A register: what an instruction does not write is 0."""
    room = np.zeros(64, np.uint8)
    room[: value.nbytes] = np.ascontiguousarray(value).view(np.uint8).ravel()
    return room


def at(a: np.ndarray, offset: int, count: int, dtype: str) -> np.ndarray:
    return np.frombuffer(a["memory"][0].tobytes(), dtype, count, offset)


WIDE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "vpdpbusd zmm0, zmm1, zmm2": dot_bytes,
    "{vex} vpdpbusd ymm0, ymm1, ymm2": lambda a: dot_bytes(a)[:8],
    "vpdpwssd zmm0, zmm1, zmm2": dot_words,
    "{vex} vpdpwssd xmm0, xmm1, xmm2": lambda a: dot_words(a)[:4],
    "vpermt2ps zmm0, zmm1, zmm2": table,
    "vpermd zmm0, zmm1, zmm2": lambda a: lanes(a, 2, "u4")[lanes(a, 1, "u4") & 15],
    "vpunpcklwd zmm0, zmm1, zmm2": interleaved,
    "vpackssdw zmm0, zmm1, zmm2": packed,
    "vpmovsdw ymm0, zmm1": lambda a: lanes(a, 1, "i4").clip(-(2**15), 2**15 - 1).astype(np.int16),
    "vpmovusdb xmm0, zmm1": lambda a: lanes(a, 1, "u4").clip(0, 255).astype(np.uint8),
    "vpmovdb xmm0, zmm1": lambda a: lanes(a, 1, "u4").astype(np.uint8),
    "vpmovsxbd zmm0, xmmword ptr [rsi + 64]": lambda a: at(a, 64, 16, "i1").astype(np.int32),
    "vpmullq zmm0, zmm1, zmm2": lambda a: lanes(a, 1, "u8") * lanes(a, 2, "u8"),
    "vpsraq zmm0, zmm1, 5": lambda a: lanes(a, 1, "i8") >> 5,
    "vpternlogd zmm0, zmm1, zmm2, 0xa8": lambda a: lanes(a, 2, "u4") & (lanes(a, 0, "u4") | lanes(a, 1, "u4")),
    "vpaddd zmm0, zmm1, dword ptr [rsi + 68]{1to16}": lambda a: lanes(a, 1, "u4") + at(a, 68, 1, "u4"),
    "vpaddd zmm0 {k1}, zmm1, zmm1": lambda a: doubled(a, lanes(a, 0, "u4")),
    "vpaddd zmm0 {k1} {z}, zmm1, zmm1": lambda a: doubled(a, np.zeros(16, np.uint32)),
    "vmovdqu16 zmm0 {k1}, zmm1": lambda a: np.where(selected(a, 32), lanes(a, 1, "u2"), lanes(a, 0, "u2")),
    "vmovups ymm0 {k1} {z}, ymm1": lambda a: np.where(selected(a, 8), lanes(a, 1, "u4")[:8], np.uint32(0)),
    "vinserti64x4 zmm0, zmm1, ymm2, 1": lambda a: np.concatenate([lanes(a, 1, "u4")[:8], lanes(a, 2, "u4")[:8]]),
    "vextractf32x4 xmm0, zmm1, 3": lambda a: lanes(a, 1, "u4")[12:],
    "vshuff64x2 zmm0, zmm1, zmm2, 0x93": lambda a: np.concatenate(
        [lanes(a, i, "u8").reshape(4, 2)[j] for i, j in ((1, 3), (1, 0), (2, 1), (2, 2))]
    ),
    "vrndscaleps zmm0, zmm1, 9": lambda a: np.floor(lanes(a, 1, "f4")),
    "vrndscaleps zmm0, zmm1, 12": lambda a: np.rint(lanes(a, 1, "f4")),
    "vpbroadcastq zmm0, rax": lambda a: np.full(8, a["rax"][0]),
    "vbroadcasti32x4 zmm0, xmmword ptr [rsi + 80]": lambda a: np.tile(at(a, 80, 4, "u4"), 4),
    "vcompressps zmm0 {k1} {z}, zmm1": lambda a: lanes(a, 1, "u4")[selected(a, 16)],
}  # fmt: skip


@pytest.fixture(scope="module")
def wide() -> ctypes.CDLL:
    return emulation.load(single.library(list(WIDE), wide=True))


@pytest.mark.parametrize("number", range(len(WIDE)), ids=list(WIDE))
def test_definition(wide, number):
    text = list(WIDE)[number]
    for seed in range(12):
        state = single.random_state(seed, floats=seed % 2 == 0 or "rnd" in text)
        with np.errstate(all="ignore"):
            expected = WIDE[text](state)
        assert same(single.run(getattr(wide, f"i{number}"), state)["v"][0][0], extended(expected))


def test_masks_choose_what_memory_is_touched():
    """A gather and a scatter by index, and lanes beyond the mask, which may lie where there is no memory."""
    names = ["vgatherdps zmm0 {k1}, [rsi + zmm3*4]", "vscatterdps [rsi + zmm3*4] {k1}, zmm1",
             "vmovups zmmword ptr [rsi + 4] {k1}, zmm1", "vmovups zmm0 {k1}, zmmword ptr [rax]"]  # fmt: skip
    library, random = emulation.load(single.library(names, wide=True)), np.random.default_rng(0)
    state = single.random_state(1, floats=False)
    indices = random.permutation(64)[:16].astype(np.int32)
    state["v"][0][3] = indices.view(np.uint8)
    state["k1"], state["rax"] = 0xF0F0_9A35, 8
    wanted = (0x9A35 >> np.arange(16) & 1).astype(bool)
    memory, ones, old = state["memory"][0].view("u4"), lanes(state, 1, "u4"), lanes(state, 0, "u4")
    gathered = single.run(library.i0, state)
    np.testing.assert_array_equal(lanes(gathered, 0, "u4"), np.where(wanted, memory[indices], old))
    assert gathered["k1"] == 0
    expected = memory.copy()
    expected[indices[wanted]] = ones[wanted]
    np.testing.assert_array_equal(single.run(library.i1, state)["memory"][0].view("u4"), expected)
    expected = memory.copy()
    expected[1:17] = np.where(wanted, ones, memory[1:17])
    np.testing.assert_array_equal(single.run(library.i2, state)["memory"][0].view("u4"), expected)
    state["k1"] = 0
    np.testing.assert_array_equal(lanes(single.run(library.i3, state), 0, "u4"), old)


def test_unknown_instructions_are_told():
    with pytest.raises(decode.UndecodedError, match="vaesenc"):
        emulation.Translated(single.library(["vaesenc xmm0, xmm1, xmm2"], wide=False))
