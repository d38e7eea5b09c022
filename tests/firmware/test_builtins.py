from __future__ import annotations

from tiny_bare import SOURCE_WITHOUT_FLOATS, tiny_firmware, tiny_library


def test_what_a_core_lacks_comes_from_the_compilers_library():
    """Division of 64 bits on a Cortex-M4: the first link fails, the second one has zig's own functions."""
    source = SOURCE_WITHOUT_FLOATS.replace("total += first[i]", "total += (int64_t)runs * runs / (runs + 7) + first[i]")
    assert b"__aeabi_ldivmod" in tiny_library("cortex-m4", source)
    assert tiny_firmware("emulated-m4", source).flash_bytes > tiny_firmware().flash_bytes
