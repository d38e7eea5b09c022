from __future__ import annotations

import msgspec
import pytest

from edgeprune.board import load_board
from edgeprune.chip import load_chip
from edgeprune.deploy.bare import memory_for
from edgeprune.deploy.probe_memory import ProbeMemory
from edgeprune.deploy.serial_memory import SerialMemory
from edgeprune.errors import EdgepruneError


def test_by_the_transport_of_the_board():
    probe, line = load_board("nrf52840-dk"), load_board("esp32-c3-devkitm")
    assert isinstance(memory_for(probe, load_chip(probe.chip)), ProbeMemory)
    named = msgspec.structs.replace(line, device="/dev/ttyACM7")
    assert isinstance(memory_for(named, load_chip(line.chip)), SerialMemory)


def test_an_emulated_board_has_its_own_way():
    with pytest.raises(EdgepruneError) as caught:
        memory_for(load_board("emulated-m4"), load_chip("emulated-m4"))
    assert str(caught.value) == (
        "board emulated-m4 is reached by unicorn, not by a probe or a serial line [memory-unreachable]\n"
        '  where: --board\n  hint:  set transport = "probe" or "uart" in its file'
    )
