"""The functions that a Cortex-M0+ calls for what it cannot do, called one by one in unicorn."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import unicorn
from tiny_bare import SOURCE_WITHOUT_FLOATS, tiny_firmware
from unicorn import arm_const as arm

from edgeprune.elf import read_elf

USED = """
static volatile uint32_t u[2]; static volatile int32_t s[2];
static volatile uint64_t l[2]; static volatile int64_t m[2];
int32_t __clzsi2(uint32_t), __divsi3(int32_t, int32_t), __modsi3(int32_t, int32_t);
uint32_t __udivsi3(uint32_t, uint32_t), __umodsi3(uint32_t, uint32_t);
#define USE (u[0] = __udivsi3(u[0], u[1]), u[0] = __umodsi3(u[0], u[1]), u[0] = __clzsi2(u[1]), \\
             s[0] = __divsi3(s[0], s[1]), s[0] = __modsi3(s[0], s[1]), u[0] = u[0] % u[1], s[0] = s[0] % s[1], \\
             l[0] = l[0] * l[1], l[0] = l[0] << u[0], l[0] = l[0] >> u[0], m[0] = m[0] >> u[0])
void edge_run("""
WORDS = (0, 1, 2, 3, 7, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.fixture(scope="module")
def call():
    source = SOURCE_WITHOUT_FLOATS.replace("void edge_run(", USED, 1).replace("runs++;", "runs++; USE;")
    elf = read_elf(tiny_firmware("rp2040", source).elf)
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
    machine.mem_map(0x10000000, 0x10000)
    machine.mem_map(0x20000000, 0x1000)
    for segment in elf.segments:
        machine.mem_write(segment.load, segment.data)

    def made(name, *words):
        for register, word in zip(range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R0 + 4), words, strict=False):
            machine.reg_write(register, word)
        machine.reg_write(arm.UC_ARM_REG_SP, 0x20001000)
        machine.reg_write(arm.UC_ARM_REG_LR, 0x1000FFF1)
        machine.emu_start(elf.symbol(name) | 1, 0x1000FFF0)
        return machine.reg_read(arm.UC_ARM_REG_R0), machine.reg_read(arm.UC_ARM_REG_R1)

    return made


def signed(word, bits=32):
    return word - (1 << bits) if word >> (bits - 1) else word


def pairs(seed):
    rows = (
        np.random.default_rng(seed).integers(0, 1 << 32, (40, 2), np.uint64)
        >> np.arange(40, dtype=np.uint64)[:, None] % 29
    )
    return [(a, b) for a in WORDS for b in WORDS] + [(int(a), int(b)) for a, b in rows]


def test_division(call):
    for value, by in pairs(0):
        if by == 0:
            assert call("__udivsi3", value, by)[0] == call("__divsi3", value, by)[0] == 0
            continue
        assert call("__aeabi_uidivmod", value, by) == divmod(value, by)
        assert (call("__udivsi3", value, by)[0], call("__umodsi3", value, by)[0]) == divmod(value, by)
        a, b = signed(value), signed(by)
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        wanted = quotient & 0xFFFFFFFF, (a - quotient * b) & 0xFFFFFFFF
        assert call("__aeabi_idivmod", value, by) == wanted
        assert (call("__divsi3", value, by)[0], call("__modsi3", value, by)[0]) == wanted


def test_long_products(call):
    for (a, b), (c, d) in zip(pairs(1), reversed(pairs(2)), strict=True):
        product = (a | b << 32) * (c | d << 32) & (1 << 64) - 1
        assert call("__muldi3", a, b, c, d) == struct.unpack("<2I", struct.pack("<Q", product))


def test_long_shifts(call):
    for low, high in pairs(3)[::7]:
        value = low | high << 32
        for by in (0, 1, 15, 31, 32, 33, 48, 63):
            wanted = {
                "__ashldi3": value << by & (1 << 64) - 1,
                "__lshrdi3": value >> by,
                "__ashrdi3": signed(value, 64) >> by & (1 << 64) - 1,
            }
            for name, number in wanted.items():
                assert call(name, low, high, by) == struct.unpack("<2I", struct.pack("<Q", number)), (name, by)


def test_leading_zeros(call):
    for word in (*WORDS, *(1 << bit for bit in range(32))):
        assert call("__clzsi2", word)[0] == 32 - word.bit_length()
