"""A debug probe of pyOCD's, with a Cortex-M4 behind it that runs in unicorn: debug port, access ports, core, flash.

The chip is an nRF52840 as its product specification describes it: its flash can only lose bits until a page is
erased, and only while NVMC.CONFIG allows it. pyOCD's own flash algorithm is executed by the emulated core.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import ClassVar

import unicorn
from pyocd.core import exceptions
from pyocd.probe.aggregator import PROBE_CLASSES
from pyocd.probe.debug_probe import DebugProbe
from unicorn import arm_const as arm

FLASH, FLASH_BYTES, PAGE = 0x0, 0x100000, 0x1000
RAM, RAM_BYTES = 0x20000000, 0x40000
FICR, NVMC = 0x10000000, 0x4001E000
DHCSR, DCRSR, DCRDR, DEMCR, AIRCR, DFSR = 0xE000EDF0, 0xE000EDF4, 0xE000EDF8, 0xE000EDFC, 0xE000ED0C, 0xE000ED30
HALT, DEBUG, STEP = 2, 1, 4
SLICE = 1000
"""Instructions that the core runs between two accesses of the probe."""

REGISTERS = {
    **{i: arm.UC_ARM_REG_R0 + i for i in range(13)},
    13: arm.UC_ARM_REG_SP,
    14: arm.UC_ARM_REG_LR,
    15: arm.UC_ARM_REG_PC,
    16: arm.UC_ARM_REG_XPSR,
    17: arm.UC_ARM_REG_MSP,
    18: arm.UC_ARM_REG_PSP,
}


def component(base, part, kind=0xE):
    """Identification registers of a CoreSight component of Arm's."""
    words = {0xFE0: part & 0xFF, 0xFE4: 0xB0 | part >> 8, 0xFE8: 0x0B, 0xFEC: 0, 0xFD0: 4, 0xFD4: 0, 0xFD8: 0}
    words |= {0xFDC: 0, 0xFF0: 0x0D, 0xFF4: kind << 4, 0xFF8: 0x05, 0xFFC: 0xB1}
    return {base + offset: word for offset, word in words.items()}


SYSTEM = {
    **component(0xE00FF000, 0x4C4, kind=1),
    0xE00FF000: 0xFFF0F003,
    0xE00FF004: 0xFFF02003,
    0xE00FF008: 0xFFF03003,
    0xE00FFFCC: 1,
    **component(0xE000E000, 0x00C),
    **component(0xE0001000, 0x002),
    **component(0xE0002000, 0x003),
    0xE000ED00: 0x410FC241,
    0xE000EF40: 0x10110021,
    0xE000EF44: 0x11000011,
    0xE0001000: 0x40000000,
    0xE0002000: 0x00000260,
}


class Chip:
    """The nRF52840, which survives its probes.

    `stuck` maps flash addresses to bits that stay 0; one that `refuses` returns an error from whatever it shall run.
    Without `control_port` it is a chip of another maker.
    """

    def __init__(self, part=0x52840, locked=False, control_port=True):
        self.control_port = control_port
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        self.uc.mem_map(FLASH, FLASH_BYTES)
        self.uc.mem_map(FICR, 0x2000)
        self.uc.mem_map(RAM, RAM_BYTES)
        self.uc.mem_map(0x40000000, NVMC - 0x40000000)
        self.uc.mmio_map(NVMC, 0x1000, self._read_nvmc, None, self._write_nvmc, None)
        self.uc.mem_write(FLASH, b"\xff" * FLASH_BYTES)
        self.uc.mem_write(FICR, b"\xff" * 0x2000)
        self.uc.mem_write(FICR + 0x100, struct.pack("<3I", part, 0x41414630, 0x2004))
        self.uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._flash_write, begin=FLASH, end=FLASH + FLASH_BYTES - 1)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._breakpoint)
        self.locked, self.stuck, self.config, self.pending, self.refuses = locked, {}, 0, [], False
        self.system, self.dhcsr, self.dcrdr, self.erased, self.executed = dict(SYSTEM), 0, 0, [], 0
        self.was_reset, self.started, self.fault = True, 0, False
        self.reset()

    def flash(self, start=0, size=FLASH_BYTES):
        self._settle()
        return bytes(self.uc.mem_read(start, size))

    def reset(self):
        self._settle()
        stack, entry = struct.unpack("<2I", self.uc.mem_read(FLASH, 8))
        self.halted, self.fault = entry == 0xFFFFFFFF, entry == 0xFFFFFFFF
        self.uc.reg_write(arm.UC_ARM_REG_SP, stack & ~3)
        self.uc.reg_write(arm.UC_ARM_REG_PC, entry)
        self.config, self.was_reset, self.started = 0, True, self.started + 1
        if self.dhcsr & DEBUG and self.system.get(DEMCR, 0) & 1:
            self.halted = True

    def run(self, count=SLICE):
        """Let the core go on, as time does between two accesses."""
        if self.halted:
            return
        if self.refuses:
            self.uc.reg_write(arm.UC_ARM_REG_R0, 7)
            self.halted = True
            return
        try:
            self.uc.emu_start(self.uc.reg_read(arm.UC_ARM_REG_PC) | 1, 0xFFFFFFFF, count=count)
        except unicorn.UcError:
            self.halted = self.fault = True
        self.executed += count
        self._settle()

    def _breakpoint(self, uc, number, _):
        self.halted = True
        self.system[DFSR] = self.system.get(DFSR, 0) | 2
        uc.emu_stop()

    def _flash_write(self, uc, _, address, size, value, __):
        self._settle()
        self.pending.append((address, bytes(uc.mem_read(address, size)), value))

    def _settle(self):
        """Writes to flash take only what the controller lets through."""
        for address, old, value in self.pending:
            new = (value & (1 << 8 * len(old)) - 1).to_bytes(len(old), "little")
            self._program(address, old, new)
        self.pending.clear()

    def _program(self, address, old, new):
        kept = bytearray(a & b if self.config & 3 == 1 else a for a, b in zip(old, new, strict=True))
        for offset in range(len(kept)):
            kept[offset] &= ~self.stuck.get(address + offset, 0)
        self.uc.mem_write(address, bytes(kept))

    def _read_nvmc(self, uc, offset, size, _):
        self._settle()
        return {0x400: 1, 0x408: 1, 0x504: self.config}.get(offset, 0)

    def _write_nvmc(self, uc, offset, size, value, _):
        self._settle()
        if offset == 0x504:
            self.config = value
        if offset == 0x508 and self.config & 3 == 2:
            start = value - value % PAGE
            self.erased.append(start)
            self.uc.mem_write(start, b"\xff" * PAGE)
        if offset == 0x50C and self.config & 3 == 2:
            self.erased += range(0, FLASH_BYTES, PAGE)
            self.uc.mem_write(FLASH, b"\xff" * FLASH_BYTES)

    def read(self, address, size):
        """A read by the access port; None where nothing answers."""
        if self.locked:
            return None
        if address >= 0xE0000000:
            word = self._read_system(address & ~3)
            return word >> 8 * (address & 3) & (1 << 8 * size) - 1
        if NVMC <= address < NVMC + 0x1000:
            return self._read_nvmc(None, address - NVMC, size, None)
        self._settle()
        try:
            return int.from_bytes(self.uc.mem_read(address, size), "little")
        except unicorn.UcError:
            return None

    def write(self, address, size, value):
        if self.locked:
            return False
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        if address >= 0xE0000000:
            self._write_system(address, value)
        elif NVMC <= address < NVMC + 0x1000:
            self._write_nvmc(None, address - NVMC, size, value, None)
        elif FLASH <= address < FLASH + FLASH_BYTES:
            self._program(address, self.flash(address, size), data)
        else:
            try:
                self.uc.mem_write(address, data)
            except unicorn.UcError:
                return False
        return True

    def _read_system(self, address):
        if address == DHCSR:
            word = self.dhcsr & 0xF | 1 << 16 | (1 << 17 if self.halted and self.dhcsr & DEBUG else 0)
            word |= 1 << 25 if self.was_reset else 0
            self.was_reset = False
            return word
        return self.dcrdr if address == DCRDR else self.system.get(address, 0)

    def _write_system(self, address, value):
        if address == DHCSR and value >> 16 == 0xA05F:
            resumed = self.halted and not value & HALT
            self.dhcsr = value & 0xF
            if value & HALT and value & DEBUG:
                self.halted = True
            elif resumed and not self.fault:
                self.halted = False
                self.run(1 if value & STEP else SLICE)
                self.halted = self.halted or bool(value & STEP)
        elif address == AIRCR and value & 4:
            self.reset()
        elif address == DCRDR:
            self.dcrdr = value
        elif address == DFSR:
            self.system[DFSR] = self.system.get(DFSR, 0) & ~value
        elif address == DCRSR:
            self._transfer(value & 0x7F, bool(value & 1 << 16))
        else:
            self.system[address] = value

    def _transfer(self, number, write):
        register = REGISTERS.get(number)
        if register is None:
            self.dcrdr = self.dcrdr if write else 0
        elif write:
            self.uc.reg_write(register, self.dcrdr)
            self.fault = False if number == 15 else self.fault
        else:
            self.dcrdr = self.uc.reg_read(register) & 0xFFFFFFFF


class EmulatedProbe(DebugProbe):
    """The probe; it is pulled out after `pulled_after` accesses where that is given; without a chip nothing answers."""

    plugged: ClassVar[list[EmulatedProbe]] = []

    def __init__(self, chip, serial="E0C0FFEE", pulled_after=None):
        super().__init__()
        self.chip, self.serial, self.pulled_after, self.accesses = chip, serial, pulled_after, 0
        self.registers, self.opened, self.protocol, self.asserted = {}, False, None, False

    @classmethod
    def get_all_connected_probes(cls, unique_id=None, is_explicit=False):
        return list(cls.plugged)

    @classmethod
    def get_probe_with_id(cls, unique_id, is_explicit=False):
        return next((probe for probe in cls.plugged if probe.unique_id == unique_id), None)

    vendor_name, product_name = "Tests", "emulated probe"
    supported_wire_protocols = (DebugProbe.Protocol.DEFAULT, DebugProbe.Protocol.SWD)
    capabilities = frozenset({DebugProbe.Capability.SWJ_SEQUENCE})
    unique_id = property(lambda self: self.serial)
    wire_protocol = property(lambda self: self.protocol)
    is_open = property(lambda self: self.opened)

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def connect(self, protocol=None):
        self.protocol = DebugProbe.Protocol.SWD

    def disconnect(self):
        self.protocol = None

    def set_clock(self, frequency):
        pass

    def swj_sequence(self, length, bits):
        self._touch()

    def reset(self):
        self._touch()
        self.chip.reset()

    def assert_reset(self, asserted):
        self._touch()
        if self.asserted and not asserted:
            self.chip.reset()
        self.asserted = asserted

    def is_reset_asserted(self):
        return self.asserted

    def read_dp(self, addr, now=True):
        self._touch()
        control = self.registers.get("control", 0)
        value = {0: 0x2BA01477, 4: control | (control & 0x50000000) << 1}.get(addr, 0)
        return value if now else lambda: value

    def write_dp(self, addr, data):
        self._touch()
        if addr == 4:
            self.registers["control"] = data & 0x50000F00

    def read_ap(self, addr, now=True):
        self._touch()
        value = self._read_ap(addr)
        return value if now else lambda: value

    def write_ap(self, addr, data):
        self._touch()
        self._write_ap(addr, data)

    def read_ap_multiple(self, addr, count=1, now=True):
        self._touch()
        values = [self._read_ap(addr) for _ in range(count)]
        return values if now else lambda: values

    def write_ap_multiple(self, addr, values):
        self._touch()
        for value in values:
            self._write_ap(addr, value)

    def _touch(self):
        """One access over USB: the core has gone on meanwhile, and the cable may be out."""
        self.accesses += 1
        if self.pulled_after is not None and self.accesses > self.pulled_after:
            self.plugged[:] = [probe for probe in self.plugged if probe is not self]
            raise exceptions.ProbeDisconnected("the USB device is gone")
        if self.chip is None:
            raise exceptions.TransferError("no ACK")
        self.chip.run()

    def _read_ap(self, addr):
        port, register = addr >> 24, addr & 0xFC
        if port == 1 and self.chip.control_port:
            return {0xFC: 0x02880000, 0x0C: int(not self.chip.locked)}.get(register, 0)
        if port >= 1:
            return 0
        if register == 0x0C:
            return self._transfer(None)
        fixed = {0xFC: 0x24770011, 0xF8: 0xE00FF003, 0xF4: 0}
        if register == 0:
            return self.registers.get(0, 0x23000002) & ~0x40 | (0 if self.chip.locked else 0x40)
        return fixed.get(register, self.registers.get(register, 0))

    def _write_ap(self, addr, data):
        port, register = addr >> 24, addr & 0xFC
        if port == 0 and register == 0x0C:
            self._transfer(data)
        elif port == 0:
            self.registers[register] = data

    def _transfer(self, data):
        """One access to memory at TAR, which moves on where CSW says so; lanes as the bus has them."""
        status, address = self.registers.get(0, 0x23000002), self.registers.get(4, 0)
        size = 1 << (status & 7)
        lane = 8 * (address & 3)
        if status & 0x30:
            self.registers[4] = address + size
        if data is None:
            value = self.chip.read(address, size)
            if value is None:
                raise exceptions.TransferFaultError("memory fault")
            return value << lane & 0xFFFFFFFF
        if not self.chip.write(address, size, data >> lane):
            raise exceptions.TransferFaultError("memory fault")
        return 0


@contextmanager
def plugged_in(*probes):
    """pyOCD with a plug-in of the tests' own that sees these probes; real ones are not looked for."""
    before = dict(PROBE_CLASSES)
    PROBE_CLASSES.clear()
    PROBE_CLASSES["emulated"] = EmulatedProbe
    EmulatedProbe.plugged[:] = probes
    try:
        yield
    finally:
        EmulatedProbe.plugged.clear()
        PROBE_CLASSES.clear()
        PROBE_CLASSES.update(before)
