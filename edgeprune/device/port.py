"""Serial ports through pyserial; every failure is an EdgepruneError, every call ends in its time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.device.failures import flasher_missing, probe_lost, probe_missing, readable
from edgeprune.errors import EdgepruneError

_WRITE_SECONDS = 5.0
_BLOCK = 65536
_TRIES = 3
_PAUSE_SECONDS = 0.01

ANY_PRODUCT = -1
_BRIDGES = ((0x10C4, 0xEA60), (0x1A86, 0x7523), (0x1A86, 0x55D4), (0x0403, ANY_PRODUCT))
"""CP210x, CH340, CH9102 and FTDI, which boards of many makers carry."""

_MAKERS = {"esp32": ((0x303A, ANY_PRODUCT),), "stm32": ((0x0483, ANY_PRODUCT),), "nrf": ((0x1366, ANY_PRODUCT),)}
"""The USB ids of a maker's own ports, by how the names of its chips begin: Espressif, ST-Link, J-Link."""


def usb_ids(chip: str) -> tuple[tuple[int, int], ...]:
    """What the serial ports of boards with `chip` look like on USB."""
    return tuple(ids for start, own in _MAKERS.items() if chip.startswith(start) for ids in own) + _BRIDGES


@dataclass(frozen=True)
class PortFacts:
    """A serial port; `vendor` and `product` are its USB ids, 0 where it is no USB device."""

    device: str
    vendor: int = 0
    product: int = 0
    serial: str = ""
    description: str = ""

    def is_one_of(self, ids: Sequence[tuple[int, int]]) -> bool:
        """Whether its USB ids are among `ids`; ANY_PRODUCT stands for every product of a vendor."""
        return any(self.vendor == vendor and product in (self.product, ANY_PRODUCT) for vendor, product in ids)


def list_ports() -> list[PortFacts]:
    """Every serial port of this machine. Raises EdgepruneError (flasher-missing)."""
    _require_serial()
    from serial.tools.list_ports import comports

    return [
        PortFacts(port.device, port.vid or 0, port.pid or 0, readable(port.serial_number or ""), readable(str(port)))
        for port in comports()
    ]


def choose_port(device: str, ids: Sequence[tuple[int, int]], board: str) -> str:
    """`device`, or the only port whose USB ids fit. Raises EdgepruneError: probe-missing, board-ambiguous."""
    if device:
        return device
    ports = [port for port in list_ports() if port.is_one_of(ids)]
    if not ports:
        hint = f"plug it in, or name its port: --board {board}@/dev/ttyACM0"
        raise probe_missing(f"no serial port looks like that of a {board}", "USB", hint)
    if len(ports) > 1:
        what = f"{len(ports)} serial ports look like that of a {board}: {', '.join(port.device for port in ports)}"
        hint = f"name one: --board {board}@{ports[0].device}"
        raise EdgepruneError("board-ambiguous", what, where="--board", hint=hint, exit_code=2)
    return ports[0].device


class Line:
    """An open serial port, which no other program that asks can open meanwhile."""

    def __init__(self, device: str, baud: int, parity: str = "N") -> None:
        """Raises EdgepruneError: flasher-missing, probe-missing."""
        _require_serial()
        import termios

        import serial

        self.device = device
        try:
            self._serial = serial.Serial(
                device, baud, parity=parity, timeout=0, write_timeout=_WRITE_SECONDS, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            raise _unopened(device, error) from error

    def write(self, data: bytes) -> None:
        """Send `data`. Raises EdgepruneError (probe-lost)."""
        with_failures(self.device, lambda: self._serial.write(data))

    def read(self, seconds: float) -> bytes:
        """What arrives within `seconds`, as soon as something does; empty where nothing does. Error: probe-lost."""

        arrived = self._next(seconds)
        while arrived and len(arrived) < _BLOCK and (more := self._next(0.0)):
            arrived += more
        return arrived

    def read_exactly(self, size: int, seconds: float) -> bytes:
        """`size` bytes, fewer where they do not arrive within `seconds`. Raises EdgepruneError (probe-lost)."""

        arrived, end = b"", time.monotonic() + seconds
        while len(arrived) < size and (more := self._next(end - time.monotonic())):
            arrived += more
        return arrived

    def _next(self, seconds: float) -> bytes:
        """The next byte, empty where none comes within `seconds`.

        A line that is there may be told ready and then give nothing, which pyserial takes for the end of it;
        one that is gone fails each time. Raises EdgepruneError (probe-lost).
        """

        def wait() -> bytes:
            self._serial.timeout = max(0.0, seconds)
            return bytes(self._serial.read(1))

        for left in reversed(range(_TRIES)):
            try:
                return bytes(with_failures(self.device, wait))
            except EdgepruneError:
                if not left:
                    raise
            time.sleep(_PAUSE_SECONDS)
        return b""

    def drop_input(self) -> None:
        """Forget what has arrived. Raises EdgepruneError (probe-lost)."""
        with_failures(self.device, self._serial.reset_input_buffer)

    def set_lines(self, *, dtr: bool, rts: bool) -> bool:
        """Drive DTR and RTS; False where the port has none."""
        try:
            self._serial.dtr, self._serial.rts = dtr, rts
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it; nothing is raised."""
        try:
            self._serial.close()
        except OSError:
            return


def with_failures(device: str, work: Any) -> Any:
    """What `work` gives; pyserial's failures as probe-lost."""
    import termios

    import serial

    try:
        return work()
    except serial.SerialTimeoutException as error:
        raise probe_lost(device, f"it took no bytes for {_WRITE_SECONDS:.0f} s") from error
    except (serial.SerialException, OSError, TypeError, termios.error) as error:
        raise probe_lost(device, str(error)) from error


def _require_serial() -> None:
    try:
        import serial  # noqa: F401
    except ImportError as error:
        raise flasher_missing("pyserial", "pip install 'edgeprune[serial]'") from error


def _unopened(device: str, error: Exception) -> EdgepruneError:
    why = readable(str(error))
    hint = "plug the board in; `edgeprune boards --detect` lists the ports"
    if "ermission" in why:
        hint = "join the group of the port: sudo usermod -aG dialout USER, then log in again"
    if "exclusively lock" in why:
        why = "another program holds it"
    if "busy" in why.lower() or "another program" in why:
        hint = "close the program that holds it, such as a serial monitor"
    return probe_missing(f"the serial port {device} cannot be opened: {why}", device, hint)
