"""Processors with AVX-512 or VNNI as they describe themselves, and as Linux lists their features.

The words of cpuid are from published dumps: leaf 1 ecx, leaf 7, leaf 7.1 eax, leaf 0x80000001 ecx. The features are
those of instructions among the `flags` of /proc/cpuinfo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANY = 0xFFFFFFFF
"""The subleaf of leaves that have none."""

_AVX, _AVX512 = 0x07, 0xE7
_SHARED = (
    "mmx fxsr sse sse2 pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm "
    "fsgsbase bmi1 avx2 bmi2 erms rdseed adx clflushopt clwb"
)
_LEVEL_4 = "avx512f avx512dq avx512cd avx512bw avx512vl"
_ICE_LAKE = (
    f"{_LEVEL_4} avx512ifma sha_ni avx512vbmi umip avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg "
    "avx512_vpopcntdq rdpid"
)


@dataclass(frozen=True)
class Processor:
    """`target` is the best one for it; `saved_state` is XCR0: the registers that the system saves."""

    target: str
    flags: frozenset[str]
    leaves: Mapping[tuple[int, int], tuple[int, int, int, int]]
    saved_state: int = _AVX512


def _processor(
    target: str, flags: str, first: int, seventh: tuple[int, int, int, int], more: int, extended: int, state: int
) -> Processor:
    leaves = {
        (0, ANY): (0x16, 0, 0, 0),
        (1, ANY): (0, 0, first, 0),
        (7, 0): seventh,
        (7, 1): (more, 0, 0, 0),
        (0x80000000, ANY): (0x80000008, 0, 0, 0),
        (0x80000001, ANY): (0, 0, extended, 0),
    }
    return Processor(target, frozenset(f"{_SHARED} {flags}".split()), leaves, state)


PROCESSORS = {
    "Skylake-SP": _processor(
        "x86-64-v4", _LEVEL_4, 0x7FFEFBFF, (0, 0xD39FFFFB, 0x8, 0xC000000), 0, 0x121, _AVX512
    ),
    "Cascade Lake": _processor(
        "x86-64-v4-vnni", f"{_LEVEL_4} avx512_vnni", 0x7FFEFBFF, (0, 0xD39FFFFB, 0x808, 0xBC000400), 0, 0x121, _AVX512
    ),
    "Ice Lake-SP": _processor(
        "x86-64-v4-vnni", _ICE_LAKE, 0x7FFEFBFF, (0, 0xF3BFBFFF, 0x405F4E, 0x100), 0, 0x121, _AVX512
    ),
    "Sapphire Rapids": _processor(
        "x86-64-v4-vnni", f"{_ICE_LAKE} avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
        0x7FFEFBFF, (2, 0xF3BFBFFF, 0xFB417FFE, 0xFFDD4432), 0x1C30, 0x121, 0x602E7,
    ),
    "Zen 4": _processor(
        "x86-64-v4-vnni", f"{_ICE_LAKE} sse4a avx512_bf16",
        0x7ED8320B, (1, 0xF1BF97A9, 0x405FCE, 0x10000010), 0x20, 0x75C237FF, 0x2E7,
    ),
    "Alder Lake": _processor(
        "x86-64-v3-vnni", "sha_ni umip gfni vaes vpclmulqdq rdpid avx_vnni",
        0x7FFAFBFF, (1, 0x239CA7EB, 0x98C027AC, 0xFC1CC410), 0x400810, 0x121, _AVX,
    ),
}  # fmt: skip
