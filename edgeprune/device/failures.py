"""What goes wrong between this machine and a chip, the same for every flasher."""

from __future__ import annotations

from edgeprune.errors import EdgepruneError

_SHOWN = 200


def readable(text: str) -> str:
    """What a tool or a device said: its printable part, one line, short."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_SHOWN]


def probe_missing(what: str, where: str, hint: str = "") -> EdgepruneError:
    """Nothing answers at `where`: no probe, no port, no drive."""
    return EdgepruneError("probe-missing", what, where=where, hint=hint or "plug the board in; try another USB cable")


def chip_mismatch(expected: str, found: str, where: str) -> EdgepruneError:
    """The chip that answers is not the one that the board's file names; nothing was erased."""
    what = f"the chip is {readable(found)}, the firmware is for {expected}; nothing was erased"
    hint = "check which board is plugged in, or name the board that it is"
    return EdgepruneError("chip-mismatch", what, where=where, hint=hint)


def chip_locked(chip: str, where: str, hint: str) -> EdgepruneError:
    """The chip refuses to be read or written; unlocking erases everything, so that it is left to the user."""
    return EdgepruneError("chip-locked", f"the {chip} is locked against reading and writing", where=where, hint=hint)


def verify_failed(chip: str, where: str, why: str) -> EdgepruneError:
    """What was read back is not what was written."""
    what = f"the {chip} does not hold what was written: {readable(why)}"
    return EdgepruneError("flash-verify-failed", what, where=where, hint="flash it again; its flash may be worn out")


def write_failed(chip: str, where: str, why: str) -> EdgepruneError:
    """The chip or the tool refused to erase or to write."""
    what = f"the {chip} could not be written: {readable(why)}"
    return EdgepruneError("flash-failed", what, where=where, hint="switch the board off and on, then flash it again")


def probe_lost(where: str, why: str) -> EdgepruneError:
    """The connection broke while it was in use."""
    what = f"the connection was lost: {readable(why)}"
    hint = "plug the board in again and repeat; a half-written chip is written whole then"
    return EdgepruneError("probe-lost", what, where=where, hint=hint)


def flasher_missing(name: str, hint: str) -> EdgepruneError:
    """The program or package that this way of flashing needs is not installed."""
    return EdgepruneError("flasher-missing", f"{name} is not installed", where="--board", hint=hint)


def timed_out(where: str, what: str, seconds: float) -> EdgepruneError:
    """A tool or a device did not finish in its time."""
    text = f"{what} did not finish within {seconds:.0f} s"
    hint = "switch the board off and on, then try again"
    return EdgepruneError("flash-timeout", text, where=where, hint=hint)
