"""One use of a board: locked, with a folder of its own that is gone afterwards, and files that stay for the next."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType

from edgeprune.board import Board
from edgeprune.deploy.facts import BoardFacts, Conditions, probe
from edgeprune.deploy.lock import Lock
from edgeprune.deploy.transport import Ran, Transport, timed_out, upload_failed
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent

_FOLDERS = {"adb": "/data/local/tmp/edgeprune"}
_DEFAULT_FOLDER = ".cache/edgeprune/board"
_BYTES_A_SECOND = 100_000
_KEEP_DAYS = 30
_SPARE_SECONDS = 30.0

_ENTER = 'mkdir -p "$1/cache" "$1/runs" && cd "$1" && pwd -P'
_BEGIN = r"""
cd "$1" || exit 1
for old in runs/*; do
  [ -f "$old/pid" ] && pid=$(cat "$old/pid") && tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null |
    grep -qF "$1/$old/" && kill -9 "$pid"
  rm -rf "$old"
done
rm -f cache/part-*
find cache -type f -mtime +"$3" -exec rm -f {} + 2>/dev/null
mkdir "runs/$2"
"""
_KNOWN = r"""
cd "$1/cache" && shift || exit 1
for name in "$@"; do [ -f "$name" ] && sha256sum "$name" && touch "$name"; done
true
"""
_KEEP = r"""
cd "$1/cache" && sum=$(sha256sum "$2") || exit 1
[ "${sum%% *}" = "$3" ] || { rm -f "$2"; exit 3; }
chmod 755 "$2" && mv -f "$2" "$3"
"""
_LINK = 'ln -sf "$1/cache/$2" "$1/runs/$3/$4"'
_INSTALL = r"""
cd "$1" && target=models/$2 && rm -rf "$target.new" && mkdir -p "$target.new" || exit 1
shift 2
while [ $# -gt 1 ]; do
  cp "cache/$2" "$target.new/$1" || exit 1
  shift 2
done
rm -rf "$target" && mv "$target.new" "$target"
"""
_START = 'cd "$1" && shift && echo $$ > pid && exec "$@"'
_END = r"""
cd "$1" || exit 0
run=runs/$2
if [ -f "$run/pid" ] && pid=$(cat "$run/pid"); then
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1/$run/" && kill -9 "$pid"
fi
rm -rf "$run"
rm -f cache/part-"$2"-*
"""


class Session:
    """A board in use, from entering the `with` block to leaving it; `facts` is what it was found to be.

    Nobody else measures there meanwhile. What was put on the board stays in its cache by sha256; everything else is
    removed at the end, also after a failure or an interrupt.
    """

    facts: BoardFacts

    def __init__(self, transport: Transport, progress: Progress = silent) -> None:
        self._transport = transport
        self._progress = progress
        self._token = secrets.token_hex(6)
        self._folder = ""
        self._lock: Lock | None = None

    @property
    def board(self) -> Board:
        """The board in use."""
        return self._transport.board

    @property
    def kind(self) -> str:
        """What times measured there are called."""
        return self._transport.kind

    @property
    def run_folder(self) -> str:
        """The folder of this use, absolute."""
        return f"{self._folder}/runs/{self._token}"

    def __enter__(self) -> Session:
        """Reach the board and ask what it is; nothing is written there yet."""
        try:
            self._transport.connect()
            self.facts = probe(self._transport, self._wanted_folder, self._seconds)
        except BaseException:
            self._transport.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock, self._lock = self._lock, None
        try:
            if lock is not None:
                self._clean(lock, failed=error is not None)
        finally:
            self._transport.close()

    def begin(self) -> None:
        """Take the board for ourselves and make this use's folder.

        Raises EdgepruneError: board-busy; board-upload-failed, board-disk-full.
        """
        self._folder = self._ask("make a folder", _ENTER, self._wanted_folder).text.strip()
        lock = Lock(self._transport, f"{self._folder}/lock", self._seconds)
        self._lock = lock
        lock.take(self._lease(0), self.board.wait_seconds, progress=self._progress)
        self._ask("make a folder", _BEGIN, self._folder, self._token, str(_KEEP_DAYS))

    def place(self, files: Mapping[str, bytes]) -> int:
        """Put `files` into this use's folder by name; gives the number of bytes that were not there before.

        Raises EdgepruneError: board-upload-corrupt where the board's sha256 is not ours; board-disk-full, ...
        """
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        listed = self._ask("look into the cache", _KNOWN, self._folder, *sorted(set(digests.values()))).text
        sums = (line.split() for line in listed.splitlines())
        known = {parts[-1] for parts in sums if len(parts) == 2 and parts[0] == parts[-1]}
        sent = 0
        for place, (name, content) in enumerate(files.items()):
            self._progress("uploading", place, len(files), name)
            if digests[name] not in known:
                self._upload(content, digests[name], place)
                known.add(digests[name])
                sent += len(content)
            self._ask("link a file", _LINK, self._folder, digests[name], self._token, name)
        self._progress("uploading", len(files), len(files), "")
        return sent

    def install(self, name: str, files: Mapping[str, bytes]) -> str:
        """Leave placed `files` on the board for good, in a folder called `name`; gives its path there."""
        pairs = [part for file, content in files.items() for part in (file, hashlib.sha256(content).hexdigest())]
        self._ask("install the files", _INSTALL, self._folder, name, *pairs)
        return f"{self._folder}/models/{name}"

    def write(self, name: str, content: bytes) -> None:
        """Put a file that is not worth keeping into this use's folder. Raises EdgepruneError as `place` does."""
        self._transport.upload(content, f"{self.run_folder}/{name}", self._transfer_seconds(len(content)))

    def start(self, program: str, arguments: Sequence[str], seconds: float = 0.0) -> Ran:
        """Run the placed `program` in this use's folder; it should take `seconds`, and may take command_seconds more.

        Raises EdgepruneError: board-timeout, board-lost, board-busy.
        """
        assert self._lock is not None
        limit = seconds + self._seconds
        self._lock.renew(self._lease(limit))
        command = [*self._transport.launcher, f"{self.run_folder}/{program}", *arguments]
        try:
            return self._transport.run(["sh", "-c", _START, "sh", self.run_folder, *command], limit)
        except EdgepruneError as error:
            if error.code != "board-timeout":
                raise
            raise timed_out(self.board, error.where, program, limit) from error

    def fetch(self, name: str, size: int) -> bytes:
        """Read a file of `size` bytes from this use's folder. Raises EdgepruneError (board-download-failed, ...)."""
        return self._transport.download(f"{self.run_folder}/{name}", self._transfer_seconds(size))

    def conditions(self) -> Conditions:
        """How the board is doing now."""
        return probe(self._transport, self._folder, self._seconds).conditions

    @property
    def _seconds(self) -> float:
        return self.board.command_seconds

    @property
    def _wanted_folder(self) -> str:
        return self.board.folder or _FOLDERS.get(self.board.transport, _DEFAULT_FOLDER)

    def _lease(self, seconds: float) -> float:
        """How long the lock holds without a word from us: the next step, and some more for what goes before it."""
        return seconds + 2 * self._seconds + _SPARE_SECONDS

    def _transfer_seconds(self, size: int) -> float:
        return self._seconds + size / _BYTES_A_SECOND

    def _upload(self, content: bytes, digest: str, place: int) -> None:
        part = f"part-{self._token}-{place}"
        for _ in range(2):
            assert self._lock is not None
            self._lock.renew(self._lease(self._transfer_seconds(len(content))))
            self._transport.upload(content, f"{self._folder}/cache/{part}", self._transfer_seconds(len(content)))
            ran = self._script(_KEEP, self._folder, part, digest)
            if ran.code == 0:
                return
            if ran.code != 3:
                raise upload_failed(self.board, f"{self._folder}/cache/{part}", ran.said)
        what = f"what arrived on board {self.board.name} is not what was sent: its sha256 differs, twice"
        hint = "its disk is full or failing, or sha256sum there is broken"
        raise EdgepruneError("board-upload-corrupt", what, where=self._folder, hint=hint)

    def _ask(self, purpose: str, script: str, *arguments: str) -> Ran:
        ran = self._script(script, *arguments)
        if ran.code != 0:
            raise upload_failed(self.board, self._folder or self._wanted_folder, ran.said or f"cannot {purpose}")
        return ran

    def _script(self, script: str, *arguments: str) -> Ran:
        return self._transport.run(["sh", "-c", script, "sh", *arguments], self._seconds)

    def _clean(self, lock: Lock, failed: bool) -> None:
        """Remove this use's folder and give the board back; over a new connection where the old one is lost."""
        try:
            self._leave(lock)
        except EdgepruneError:
            with contextlib.suppress(EdgepruneError):
                self._transport.close()
                self._transport.connect()
                self._leave(lock)
            if not failed:
                raise

    def _leave(self, lock: Lock) -> None:
        self._script(_END, self._folder, self._token)
        lock.release()
