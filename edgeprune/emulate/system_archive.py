"""Files in memory, written as the archive that Linux unpacks when it starts: cpio, the format "newc".

The format is that of Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_LAST = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file, folder, link or device of the archive; `mode` carries the kind of file as in stat.

    `content` is a link's target; `device` are the major and minor number of a character device.
    """

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str, permissions: int = 0o755) -> Entry:
    """A folder; folders come before what is in them."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, content: bytes, permissions: int = 0o644) -> Entry:
    """A file with its content."""
    return Entry(path, stat.S_IFREG | permissions, content)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    """A character device for root alone."""
    return Entry(path, stat.S_IFCHR | 0o600, b"", (major, minor))


def write_archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, all owned by root and dated 1970; Linux unpacks several, one after another."""
    parts = [_written(entry, number) for number, entry in enumerate(entries, start=1)]
    return b"".join([*parts, _written(Entry(_LAST, 0), 0)])


def _written(entry: Entry, number: int) -> bytes:
    """Header, name and content, each filled up to a multiple of 4 bytes; a header is 13 hexadecimal words."""
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    words = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % word for word in words)
    return _filled(head + name) + _filled(entry.content)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
