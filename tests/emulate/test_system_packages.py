from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from edgeprune.emulate.system_packages import (
    DebianPackage,
    read_package,
    require_packages,
    system_folder,
    system_packages,
)
from edgeprune.errors import EdgepruneError


def made_package(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """A .deb: an archive of `ar` whose second member has an odd size."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name, content in files.items():
            facts = tarfile.TarInfo(f"./{name}")
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
        for name, target in links.items():
            facts = tarfile.TarInfo(f"./{name}")
            facts.type, facts.linkname = tarfile.SYMTYPE, target
            archive.addfile(facts)
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": stream.getvalue()}
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        parts += [head.encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def test_files_are_taken_and_links_followed(tmp_path: Path) -> None:
    content = made_package({"lib/libz.so.1.2": b"code", "usr/other": b"x"}, {"lib/libz.so.1": "libz.so.1.2"})
    package = DebianPackage("zlib", "1:1.2", hashlib.sha256(content).hexdigest(), ("lib/libz.so.1", "usr/other"))
    (tmp_path / "zlib_1%3a1.2_arm64.deb").write_bytes(content)
    assert read_package(package, tmp_path) == {"lib/libz.so.1": b"code", "usr/other": b"x"}


def test_another_file_is_refused(tmp_path: Path) -> None:
    package = DebianPackage("zlib", "1.2", "0" * 64, ("lib/libz.so.1",))
    (tmp_path / package.file).write_bytes(b"something else")
    with pytest.raises(EdgepruneError) as caught:
        read_package(package, tmp_path)
    found = hashlib.sha256(b"something else").hexdigest()
    assert caught.value.code == "emulator-files"
    assert caught.value.what == (
        f"zlib_1.2_arm64.deb is not the package that it should be: its sha256 is {found}, not {'0' * 64}"
    )
    assert caught.value.hint == (
        f"remove it and fetch it again: mkdir -p {tmp_path} && cd {tmp_path} && apt-get download zlib:arm64=1.2"
    )


@pytest.mark.parametrize("read", [True, False])
def test_a_missing_package_says_how_to_get_it(tmp_path: Path, read: bool) -> None:
    package = system_packages()[0]
    with pytest.raises(EdgepruneError) as caught:
        read_package(package, tmp_path) if read else require_packages(tmp_path)
    assert (caught.value.code, caught.value.where) == ("emulator-missing", str(tmp_path))
    assert caught.value.what == f"the emulated system needs Debian's package {package.file}, which is not there"
    for known in system_packages():
        assert f" {known.name}:arm64={known.version}" in caught.value.hint
    assert "dpkg --add-architecture arm64" in caught.value.hint


def test_every_package_is_pinned() -> None:
    names = [package.name for package in system_packages()]
    assert len(names) == len(set(names)) > 5
    for package in system_packages():
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert package.files
        assert not any(path.startswith("/") or ".." in path for path in package.files)


def test_where_packages_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGEPRUNE_SYSTEM", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert system_folder() == tmp_path / ".local/share/edgeprune/system"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert system_folder() == tmp_path / ".local/share/edgeprune/system"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert system_folder() == tmp_path / "data/edgeprune/system"
    monkeypatch.setenv("EDGEPRUNE_SYSTEM", "~/debs")
    assert system_folder() == tmp_path / "debs"
