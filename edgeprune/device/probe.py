"""Debug probes (CMSIS-DAP, ST-Link, J-Link) through pyOCD's Python interface."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgeprune.device.failures import chip_locked, flasher_missing, probe_lost, probe_missing, readable
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    from edgeprune.chip import Chip

GENERIC = "cortex_m"
"""pyOCD's name for any Cortex-M: enough to read and write memory, not to write flash."""

_UNLOCK = "unlocking erases it: `pyocd erase --mass`, or the chip maker's own tool"
_WIRING = "see that the board has power and that its debug pins are connected"
_QUIET = {"version": 1, "disable_existing_loggers": False, "loggers": {"pyocd": {"level": "CRITICAL"}}}


@dataclass(frozen=True)
class ProbeFacts:
    """A probe that is plugged in: its serial number, what it calls itself, the chip on its board where it knows."""

    serial: str
    description: str
    chip: str = ""


def list_probes() -> list[ProbeFacts]:
    """Every debug probe that is plugged in. Raises EdgepruneError (flasher-missing)."""
    found = []
    for probe in _connected(None):
        try:
            info = probe.associated_board_info
            facts = ProbeFacts(readable(probe.unique_id), readable(probe.description), readable(info.target or ""))
        except AttributeError:
            facts = ProbeFacts(readable(probe.unique_id), readable(probe.description))
        found.append(facts)
    return found


class Probe:
    """An open connection to the chip behind one probe; `target` is pyOCD's, `where` names the probe in errors."""

    def __init__(self, session: Any, where: str) -> None:
        self._session, self.session, self.where = session, session, where
        self.target = session.board.target

    def close(self) -> None:
        """End the connection; the chip goes on running. Nothing is raised."""
        from pyocd.core.exceptions import Error

        try:
            self._session.context_state.suppress_disconnect_error = True
            self._session.close()
        except (Error, OSError, RuntimeError, ValueError):
            return


def open_probe(chip: Chip, serial: str, mode: Literal["halt", "attach"], *, writes_flash: bool) -> Probe:
    """Connect to `chip` by the probe `serial`, by the only one where that is empty; nothing is ever unlocked.

    Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-locked, probe-lost.
    """
    probe = _one(serial)
    where = f"probe {readable(probe.unique_id)}"
    name = _target_name(chip, writes_flash)
    session = _session(probe, name, mode)
    try:
        with translated(chip.name, where):
            _open(session, chip, where)
    except EdgepruneError as error:
        Probe(session, where).close()
        if error.code == "chip-locked" and probe.unique_id not in [other.unique_id for other in _connected(None)]:
            raise probe_lost(where, "the probe is gone") from error
        raise
    return Probe(session, where)


def _open(session: Any, chip: Chip, where: str) -> None:
    """Open the session; what a chip says that hides its memory trips pyOCD's own start in several ways."""
    try:
        session.open()
    except (LookupError, AttributeError, AssertionError, ValueError) as error:
        raise chip_locked(chip.name, where, _UNLOCK) from error


@contextmanager
def translated(chip: str, where: str, *, unlocked: bool = False) -> Iterator[None]:
    """pyOCD's exceptions as EdgepruneError: probe-lost; probe-missing where no chip answers; chip-locked.

    A chip that is known to be `unlocked` refuses what is not there: memory-fault.
    """
    from pyocd.core import exceptions

    try:
        yield
    except exceptions.TransferFaultError as error:
        if unlocked:
            what = f"the {chip} has no memory there: {readable(str(error))}"
            hint = "flash the package again, then retry"
            raise EdgepruneError("memory-fault", what, where=where, hint=hint) from error
        raise chip_locked(chip, where, f"{_UNLOCK} (it said: {readable(str(error))})") from error
    except exceptions.ProbeError as error:
        raise probe_lost(where, str(error) or "the probe does not answer") from error
    except exceptions.TransferError as error:
        what = f"no chip answers behind the probe: {readable(str(error))}"
        raise probe_missing(what, where, _WIRING) from error
    except exceptions.DebugError as error:
        if "cores" in str(error).lower():
            raise chip_locked(chip, where, _UNLOCK) from error
        raise probe_lost(where, str(error)) from error
    except (exceptions.Error, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, exceptions.Error) and not isinstance(cause, exceptions.ProbeError):
            what = f"no chip answers behind the probe: {readable(str(cause))}"
            raise probe_missing(what, where, _WIRING) from error
        raise probe_lost(where, str(cause or error) or type(error).__name__) from error


def _connected(serial: str | None) -> list[Any]:
    try:
        from pyocd.core import exceptions
        from pyocd.probe.aggregator import DebugProbeAggregator
    except ImportError as error:
        raise flasher_missing("pyOCD", "pip install 'edgeprune[probe]'") from error
    try:
        return list(DebugProbeAggregator.get_all_connected_probes(unique_id=serial))
    except (exceptions.Error, OSError) as error:
        raise probe_missing(f"the probes cannot be listed: {readable(str(error))}", "USB") from error


def _one(serial: str) -> Any:
    """The probe that was named, or the only one."""
    probes = _connected(None)
    if serial:
        named = [probe for probe in probes if probe.unique_id.lower() == serial.lower()]
        if not named:
            told = ", ".join(readable(probe.unique_id) for probe in probes) or "none"
            raise probe_missing(f"there is no probe {serial}", "USB", f"plugged in: {told}")
        return named[0]
    if not probes:
        hint = "plug the board in; on Linux its USB device needs a udev rule (pyocd's documentation has them)"
        raise probe_missing("no debug probe is plugged in", "USB", hint)
    if len(probes) > 1:
        told = ", ".join(readable(probe.unique_id) for probe in probes)
        hint = f"name one: --board NAME@{readable(probes[0].unique_id)}"
        what = f"{len(probes)} debug probes are plugged in: {told}"
        raise EdgepruneError("board-ambiguous", what, where="--board", hint=hint, exit_code=2)
    return probes[0]


def _target_name(chip: Chip, writes_flash: bool) -> str:
    """What pyOCD calls the chip; any Cortex-M serves where no flash is written."""
    from pyocd.target import TARGET, normalise_target_type_name
    from pyocd.target.pack.pack_target import ManagedPacks

    name = normalise_target_type_name(chip.pyocd) if chip.pyocd else GENERIC
    if name in TARGET and (chip.pyocd or not writes_flash):
        return name
    if chip.pyocd and any(part.part_number.lower() == name for part in ManagedPacks.get_installed_targets()):
        return name
    if not writes_flash:
        return GENERIC
    if not chip.pyocd:
        raise flasher_missing(f"a flash algorithm of pyOCD for {chip.name}", "name another flasher in the board's file")
    raise flasher_missing(f"pyOCD's support of {chip.pyocd}", f"pyocd pack install {chip.pyocd}")


def _session(probe: Any, name: str, mode: str) -> Any:
    """A session that reads no configuration and runs no script of the folder it happens to be started in."""
    from pyocd.core.session import Session

    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="edgeprune-probe-") as empty:
        try:
            return Session(
                probe,
                auto_open=False,
                project_dir=empty,
                no_config=True,
                target_override=name,
                connect_mode=mode,
                auto_unlock=False,
                resume_on_disconnect=True,
                hide_programming_progress=True,
                logging=_QUIET,
            )
        finally:
            os.chdir(here)
