"""Chips as the tests of flashers need them."""

from __future__ import annotations

from edgeprune.chip import Chip, Identity, Region


def chip(name="rp2040", *, flash=(0x10000000, 2 << 20), ram=(0x20000000, 256 << 10), **facts):
    regions = (Region("flash", *flash, "flash"), Region("ram", *ram, "ram"))
    return Chip(name=name, description="", target="cortex-m4", clock_mhz=100, regions=regions, **facts)


def identity(address=0x10000100, mask=0xFFFFFFFF, value=0x52840):
    return Identity("an identity register", address, mask, value)
