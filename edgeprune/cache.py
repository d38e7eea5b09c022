"""Results kept on disk under keys that name all they depend on: what is lost, damaged or not ours is made anew."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "EDGEPRUNE_CACHE"
"""The environment variable that moves the cache; empty, or `off`, to keep nothing on disk."""

LIMIT_BYTES = 256 * 1024**2

_FORMAT = b"edgeprune cache 1\n"
_WRITABLE_BY_OTHERS = 0o022
_BYTES_BETWEEN_TRIMS = 16 * 1024**2


def content_key(*parts: str | bytes) -> str:
    """The SHA-256 of `parts`, which no other sequence of parts shares."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


@dataclass
class Cache:
    """Byte strings by kind and key, in memory and, where there is a `folder`, on disk.

    Files carry a digest of their content. A damaged file counts as missing, a failed write as not made, and the
    files used longest ago go first where more than `limit` bytes are kept.
    """

    folder: Path | None = None
    limit: int = LIMIT_BYTES
    _kept: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _written: int = _BYTES_BETWEEN_TRIMS

    def get(self, kind: str, key: str) -> bytes | None:
        """What was put under `key`, or None."""
        kept = self._kept.get((kind, key))
        if kept is not None or self.folder is None:
            return kept
        path = self._path(self.folder, kind, key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        head, data = content[: len(_FORMAT) + 32], content[len(_FORMAT) + 32 :]
        return data if head == _FORMAT + hashlib.sha256(data).digest() else None

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep `data`; on disk whole or not at all."""
        self._kept[kind, key] = data
        if self.folder is None:
            return
        path = self._path(self.folder, kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
                stream.write(_FORMAT + hashlib.sha256(data).digest() + data)
            os.replace(stream.name, path)
            self._written += len(data)
            if self._written >= _BYTES_BETWEEN_TRIMS:
                self._written = 0
                _trim(self.folder, self.limit)
        except OSError:
            return

    def made(self, kind: str, key: str, make: Callable[[], bytes]) -> bytes:
        """What was put under `key`, else what `make` gives, put there."""
        found = self.get(kind, key)
        if found is None:
            found = make()
            self.put(kind, key, found)
        return found

    @staticmethod
    def _path(folder: Path, kind: str, key: str) -> Path:
        return folder / kind / key[:2] / key


def open_cache() -> Cache:
    """The user's cache: in $EDGEPRUNE_CACHE, else in edgeprune under $XDG_CACHE_HOME or ~/.cache.

    A folder that cannot be made, or that others own or may write to, is not used: then nothing is kept on disk.
    """
    folder = _default_folder()
    if folder is None:
        return Cache()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError:
        return Cache()
    ours = not hasattr(os, "geteuid") or facts.st_uid == os.geteuid()
    return Cache(folder) if ours and not facts.st_mode & _WRITABLE_BY_OTHERS else Cache()


def _default_folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named in ("", "off") else Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "edgeprune"
    home = Path("~").expanduser()
    return home / ".cache" / "edgeprune" if home.is_absolute() else None


def _trim(folder: Path, limit: int) -> None:
    """Remove the files used longest ago until `limit` bytes are left."""
    files = []
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except OSError:
            continue
        if path.is_file():
            files.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda item: item[0]):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
