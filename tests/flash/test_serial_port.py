from __future__ import annotations

import pytest

pytest.importorskip("serial")

import serial
from pty_pair import PtyPair

from edgeprune.device.port import Line
from edgeprune.errors import EdgepruneError


class Flickering:
    """Bytes that arrive, None where the line is told ready and gives nothing."""

    def __init__(self, arriving):
        self.arriving = list(arriving)
        self.timeout = 0.0

    def read(self, size):
        assert size == 1
        if not self.arriving:
            return b""
        first = self.arriving.pop(0)
        if first is None:
            raise serial.SerialException("device reports readiness to read but returned no data")
        return first


def line(arriving):
    made = Line.__new__(Line)
    made.device, made._serial = "/dev/ttyACM0", Flickering(arriving)
    return made


@pytest.mark.parametrize("read", [lambda port: port.read(0.1), lambda port: port.read_exactly(3, 0.1)])
def test_a_line_that_gives_nothing_once_goes_on(read):
    assert read(line([None, b"a", b"b", None, None, b"c"])) == b"abc"


def test_what_follows_stays_for_the_next_read():
    port = line([b"a", b"b", b"c"])
    assert port.read_exactly(2, 0.1) == b"ab"
    assert port.read(0.1) == b"c"


def test_a_line_that_is_gone():
    with pytest.raises(EdgepruneError) as caught:
        line([None] * 10).read(0.1)
    assert str(caught.value).startswith(
        "the connection was lost: device reports readiness to read but returned no data [probe-lost]"
    )


def test_a_port_that_another_program_holds():
    pty = PtyPair()
    held = Line(pty.name, 115200)
    with pytest.raises(EdgepruneError) as caught:
        Line(pty.name, 115200)
    assert (caught.value.code, caught.value.where) == ("probe-missing", pty.name)
    assert caught.value.what == f"the serial port {pty.name} cannot be opened: another program holds it"
    assert caught.value.hint == "close the program that holds it, such as a serial monitor"
    held.close()
    Line(pty.name, 115200).close()
    pty.pull()
