"""One user at a time: a lock file on the board that says who holds it, and that ends by itself."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.deploy.transport import Transport, printable, upload_failed
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent

_TAKE = r"""
lock=$1 token=$2 holder=$3 lease=$4 broken=$5
now=$(date +%s)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
take() { (set -C; printf '%s\n' "$token" "$holder" "$now" "$((now + lease))" "$boot" done > "$lock") 2>/dev/null; }
take && { echo taken; exit 0; }
if [ ! -f "$lock" ]; then
  take && { echo taken; exit 0; }
  [ -f "$lock" ] || { echo "its folder cannot be written" >&2; exit 1; }
fi
{ read -r other; read -r who; read -r since; read -r until; read -r booted; read -r end; } < "$lock"
case $since in '' | *[!0-9]*) since=$now ;; esac
case $until in '' | *[!0-9]*) until=0 ;; esac
stale= taken=
if [ "$end" != done ]; then
  [ -n "$(find "$lock" -mmin +1 2>/dev/null)" ] && stale=yes
elif [ "$boot" != "$booted" ] || [ "$now" -gt "$until" ] || [ "$other" = "$broken" ]; then
  stale=yes
fi
if [ -n "$stale" ]; then
  [ -n "$(find "$lock.stale" -maxdepth 0 -mmin +1 2>/dev/null)" ] && rmdir "$lock.stale" 2>/dev/null
  if mkdir "$lock.stale" 2>/dev/null; then
    read -r again < "$lock" 2>/dev/null
    [ "$again" = "$other" ] && rm -f "$lock" && take && taken=yes
    rmdir "$lock.stale"
    [ -n "$taken" ] && { echo taken; exit 0; }
  fi
fi
printf 'held\n%s\n%s\n%s\n' "$other" "$who" "$((now - since))"
exit 2
"""

_RENEW = r"""
lock=$1 token=$2 holder=$3 lease=$4
read -r other < "$lock" 2>/dev/null
[ "$other" = "$token" ] || { echo held; exit 0; }
now=$(date +%s)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
printf '%s\n' "$token" "$holder" "$now" "$((now + lease))" "$boot" done | cat > "$lock.$token" &&
  mv "$lock.$token" "$lock"
"""

_RELEASE = 'read -r other < "$1" 2>/dev/null; [ "$other" = "$2" ] && rm -f "$1"; rm -f "$1.$2"'

_HOLDER = re.compile(r"([A-Za-z0-9._-]+)@([A-Za-z0-9._-]+)/([0-9]+)")
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Held:
    """Who has the board: the lock's own token, USER@HOST/PROCESS, and for how many seconds."""

    token: str
    holder: str
    seconds: int

    def __str__(self) -> str:
        match = _HOLDER.fullmatch(self.holder)
        who = f"{match[1]} on {match[2]} (process {match[3]})" if match else printable(self.holder, 60) or "somebody"
        return f"{who}, for {self.seconds} s"


class Lock:
    """The lock `path` of a board; `lease` seconds after it was taken or renewed, others may take it."""

    def __init__(self, transport: Transport, path: str, seconds: float, holder: str = "") -> None:
        self._transport = transport
        self._path = path
        self._seconds = seconds
        self._holder = holder or this_process()
        self._token = secrets.token_hex(8)

    def take(
        self,
        lease: float,
        wait: float,
        *,
        progress: Progress = silent,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the lock, waiting up to `wait` seconds for its holder.

        Raises EdgepruneError: board-busy, which says who holds it; board-upload-failed where no file can be made.
        """
        end = clock() + wait
        broken = ""
        while True:
            held = self._try(lease, broken)
            if held is None:
                return
            broken = held.token if _is_dead(held.holder) else ""
            if not broken:
                left = end - clock()
                if left <= 0:
                    raise self._busy(held)
                progress("waiting for the board", int(wait - left), int(wait), str(held))
                sleep(min(_POLL_SECONDS, left))

    def renew(self, lease: float) -> None:
        """Hold the lock for another `lease` seconds.

        Raises EdgepruneError: board-busy where another has it now; board-disk-full, board-upload-failed.
        """
        argv = ["sh", "-c", _RENEW, "sh", self._path, self._token, self._holder, str(int(lease) + 1)]
        ran = self._transport.run(argv, self._seconds)
        if ran.text.strip() == "held":
            raise self._busy(None)
        if ran.code != 0:
            raise upload_failed(self._transport.board, self._path, ran.said)

    def release(self) -> None:
        """Give the board back, if it is still ours."""
        self._transport.run(["sh", "-c", _RELEASE, "sh", self._path, self._token], self._seconds)

    def _try(self, lease: float, broken: str) -> Held | None:
        argv = ["sh", "-c", _TAKE, "sh", self._path, self._token, self._holder, str(int(lease) + 1), broken]
        ran = self._transport.run(argv, self._seconds)
        lines = [*ran.text.splitlines(), "", "", "", ""]
        if lines[0] == "taken":
            return None
        if lines[0] != "held":
            what = f"no file can be made on board {self._transport.board.name}: {ran.said}"
            hint = "its disk is full or its folder cannot be written; folder in the board's file names another"
            raise EdgepruneError("board-upload-failed", what, where=self._path, hint=hint)
        return Held(lines[1], lines[2], int(lines[3]) if lines[3].isdecimal() else 0)

    def _busy(self, held: Held | None) -> EdgepruneError:
        name = self._transport.board.name
        what = f"board {name} is in use by {held}" if held else f"board {name} was taken over by somebody else"
        hint = "try again later; wait_seconds in the board's file says how long to wait"
        return EdgepruneError("board-busy", what, where="--board", hint=hint)


def this_process() -> str:
    """USER@HOST/PROCESS of this process, plain letters only."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    user, host = (re.sub(r"[^A-Za-z0-9._-]", "-", text) or "unknown" for text in (user, socket.gethostname()))
    return f"{user}@{host}/{os.getpid()}"


def _is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    match = _HOLDER.fullmatch(holder)
    here = _HOLDER.fullmatch(this_process())
    if match is None or here is None or match[2] != here[2]:
        return False
    try:
        os.kill(int(match[3]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
