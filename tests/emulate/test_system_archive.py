from __future__ import annotations

import stat
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgeprune.emulate.system_archive import character_device, file, folder, link, write_archive

NAMES = st.text("abc/.é", min_size=1, max_size=9)


@dataclass(frozen=True)
class Read:
    """One entry, as a reader of the format finds it."""

    number: int
    mode: int
    links: int
    content: bytes
    device: tuple[int, int]


def read(archive: bytes) -> dict[str, Read]:
    """The entries before the trailer, which must be the last."""
    found: dict[str, Read] = {}
    start = 0
    while start < len(archive):
        assert archive[start : start + 6] == b"070701"
        words = [int(archive[start + place : start + place + 8], 16) for place in range(6, 110, 8)]
        number, mode, user, group, links, modified, size, *_, major, minor, name_size, check = words
        assert (user, group, modified, check) == (0, 0, 0, 0)
        name = archive[start + 110 : start + 110 + name_size]
        assert name.endswith(b"\0")
        begin = start + (110 + name_size + 3) // 4 * 4
        start = begin + (size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert start == len(archive)
            return found
        content = archive[begin : begin + size]
        found[name[:-1].decode()] = Read(number, mode, links, content, (major, minor))
    raise AssertionError("no trailer")


def test_every_kind_of_file() -> None:
    files = [file("etc/name", b"board\n"), link("bin", "etc"), character_device("console", 5, 1)]
    entries = [folder("etc", 0o700), *files]
    found = read(write_archive(entries))
    assert found == {
        "etc": Read(1, stat.S_IFDIR | 0o700, 2, b"", (0, 0)),
        "etc/name": Read(2, stat.S_IFREG | 0o644, 1, b"board\n", (0, 0)),
        "bin": Read(3, stat.S_IFLNK | 0o777, 1, b"etc", (0, 0)),
        "console": Read(4, stat.S_IFCHR | 0o600, 1, b"", (5, 1)),
    }


def test_nothing() -> None:
    assert read(write_archive([])) == {}


@given(st.dictionaries(NAMES, st.binary(max_size=9), max_size=4))
def test_whatever_is_written_is_read(contents: dict[str, bytes]) -> None:
    archive = write_archive(file(name, content) for name, content in contents.items())
    assert len(archive) % 4 == 0
    assert {name: entry.content for name, entry in read(archive).items()} == contents
