from __future__ import annotations

import pytest

from edgeprune.board import board_names, load_board
from edgeprune.chip import load_chip
from edgeprune.device.failures import flasher_missing
from edgeprune.device.port import PortFacts, choose_port, usb_ids
from edgeprune.device.probe import ProbeFacts
from edgeprune.errors import EdgepruneError
from edgeprune.flash import detect as module
from edgeprune.flash.connect import flasher_for
from edgeprune.flash.detect import detect
from edgeprune.flash.image import Image, Segment

BOARDS = [load_board(name) for name in board_names()]


@pytest.fixture
def plugged(monkeypatch):
    def plug(probes=(), ports=()):
        monkeypatch.setattr(module, "list_probes", lambda: list(probes))
        monkeypatch.setattr(module, "list_ports", lambda: list(ports))

    plug()
    return plug


def test_nothing(plugged, tmp_path):
    assert detect(BOARDS, [tmp_path]) == ([], [])


def test_a_probe_that_knows_its_board(plugged):
    plugged([ProbeFacts("0669FF", "STM32 STLink", "stm32l4r5zitx")])
    ((seen,), problems) = detect(BOARDS, [])
    assert (seen.kind, seen.address, seen.boards, seen.certain) == ("probe", "0669FF", ("nucleo-l4r5zi",), True)
    assert problems == [] and seen.as_dict()["boards"] == ["nucleo-l4r5zi"]


@pytest.mark.parametrize(
    ("description", "inside", "outside"),
    [
        ("STMicroelectronics ST-Link/V2-1", "nucleo-f446re", "nrf52840-dk"),
        ("Segger J-Link OB", "nrf52840-dk", "nucleo-f446re"),
        ("Raspberry Pi Debug Probe (CMSIS-DAP)", "raspberry-pi-pico", "esp32-c3-devkitm"),
    ],
)
def test_a_probe_of_a_maker(plugged, description, inside, outside):
    plugged([ProbeFacts("1", description)])
    ((seen,), _) = detect(BOARDS, [])
    assert inside in seen.boards and outside not in seen.boards and not seen.certain


def test_ports(plugged):
    plugged(
        ports=[
            PortFacts("/dev/ttyACM0", 0x303A, 0x1001, "", "USB JTAG"),
            PortFacts("/dev/ttyS0"),
            PortFacts("/dev/ttyACM1", 0x1209, 0x0001, "", "something else"),
        ]
    )
    (first, second), _ = detect(BOARDS, [])
    assert (first.kind, first.address, first.boards) == ("port", "/dev/ttyACM0", ("esp32-c3-devkitm",))
    assert second.boards == ()


def test_drives(plugged, tmp_path):
    for name, board_id in (("a", "RPI-RP2"), ("b", "RP2350"), ("c", "Other-1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "INFO_UF2.TXT").write_text(f"Model: m\nBoard-ID: {board_id}\n")
    seen, _ = detect(BOARDS, [tmp_path / name for name in "abc"])
    assert [(one.boards, one.certain) for one in seen] == [
        (("raspberry-pi-pico",), True),
        (("raspberry-pi-pico-2",), True),
        ((), False),
    ]
    assert seen[0].description == f"m (RPI-RP2) at {tmp_path / 'a'}"


def test_what_cannot_be_looked_at_is_said(plugged, monkeypatch):
    def missing():
        raise flasher_missing("pyOCD", "pip install 'edgeprune[probe]'")

    plugged(ports=[PortFacts("/dev/ttyACM0", 0x303A, 1)])
    monkeypatch.setattr(module, "list_probes", missing)
    seen, problems = detect(BOARDS, [])
    assert len(seen) == 1 and [problem.what for problem in problems] == ["pyOCD is not installed"]


def test_choosing_a_port(monkeypatch):
    ports = [PortFacts("/dev/ttyUSB0", 0x10C4, 0xEA60), PortFacts("/dev/ttyUSB1", 0x1A86, 0x7523), PortFacts("/dev/x")]
    monkeypatch.setattr("edgeprune.device.port.list_ports", lambda: ports)
    ids = usb_ids("esp32-c3")
    assert choose_port("/dev/mine", ids, "kitchen") == "/dev/mine"
    with pytest.raises(EdgepruneError) as caught:
        choose_port("", ids, "kitchen")
    assert str(caught.value) == (
        "2 serial ports look like that of a kitchen: /dev/ttyUSB0, /dev/ttyUSB1 [board-ambiguous]\n  where: --board\n"
        "  hint:  name one: --board kitchen@/dev/ttyUSB0"
    )
    del ports[0]
    assert choose_port("", ids, "kitchen") == "/dev/ttyUSB1"
    del ports[0]
    with pytest.raises(EdgepruneError) as caught:
        choose_port("", ids, "kitchen")
    assert str(caught.value) == (
        "no serial port looks like that of a kitchen [probe-missing]\n  where: USB\n"
        "  hint:  plug it in, or name its port: --board kitchen@/dev/ttyACM0"
    )


@pytest.mark.parametrize("name", ["esp32-c3-devkitm", "kitchen"])
def test_what_writes_over_a_serial_port_asks_for_the_board(monkeypatch, tmp_path, name):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgeprune/boards").mkdir(parents=True)
    own = 'like = "nucleo-f446re"\ntransport = "uart"\nflashers = ["stm32loader"]\n'
    (tmp_path / "edgeprune/boards/kitchen.toml").write_text(own)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("edgeprune.device.port.list_ports", list)
    board = load_board(name)
    chip = load_chip(board.chip)
    image = Image((Segment(chip.flash.start, bytes(64)),))
    with pytest.raises(EdgepruneError) as caught:
        flasher_for(board).flash(image, chip)
    assert caught.value.what == f"no serial port looks like that of a {name}"
    assert caught.value.hint == f"plug it in, or name its port: --board {name}@/dev/ttyACM0"
