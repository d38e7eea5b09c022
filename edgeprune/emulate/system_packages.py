"""Debian's packages that the emulated system is made of: where they lie, their digests, their files."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import sys
import tarfile
from importlib import resources
from pathlib import Path

import msgspec

from edgeprune.errors import EdgepruneError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "EDGEPRUNE_SYSTEM"
"""The environment variable that names the folder of the packages."""

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


class DebianPackage(msgspec.Struct, frozen=True):
    """A package by name and version, the digest of its file, and the `files` that are taken from it."""

    name: str
    version: str
    sha256: str
    files: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file's name, as apt-get writes it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_arm64.deb"


class _Listed(msgspec.Struct, frozen=True):
    package: tuple[DebianPackage, ...]


def system_packages() -> tuple[DebianPackage, ...]:
    """The packages of system.toml, in their order."""
    text = (resources.files("edgeprune.emulate") / "system.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Listed).package


def system_folder() -> Path:
    """Where the packages are: $EDGEPRUNE_SYSTEM, else edgeprune/system under $XDG_DATA_HOME or ~/.local/share."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_DATA_HOME", "")
    home = Path(base) if base and Path(base).is_absolute() else Path("~/.local/share").expanduser()
    return home / "edgeprune" / "system"


def require_packages(folder: Path) -> None:
    """Check that every package is in `folder`. Raises EdgepruneError (emulator-missing)."""
    for package in system_packages():
        path = folder / package.file
        if not path.is_file():
            raise _missing(path, folder)


def read_package(package: DebianPackage, folder: Path) -> dict[str, bytes]:
    """The files taken from `package`, by their paths there.

    Raises EdgepruneError: emulator-missing with the commands that fetch it; emulator-files where it is another file.
    """
    path = folder / package.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _missing(path, folder) from error
    found = hashlib.sha256(content).hexdigest()
    if found != package.sha256:
        what = f"{package.file} is not the package that it should be: its sha256 is {found}, not {package.sha256}"
        hint = f"remove it and fetch it again: {_fetch([package], folder)}"
        raise EdgepruneError("emulator-files", what, where=str(path), hint=hint)
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(_data(content))), mode="r:") as archive:
        return {name: _extracted(archive, f"./{name}") for name in package.files}


def _data(content: bytes) -> bytes:
    """The member data.tar.xz of a package: an archive of `ar`."""
    assert content.startswith(_MAGIC)
    start = len(_MAGIC)
    while start + _HEADER_BYTES <= len(content):
        name, size = content[start : start + 16].strip(b" /"), int(content[start + 48 : start + 58])
        start += _HEADER_BYTES
        if name == b"data.tar.xz":
            return content[start : start + size]
        start += size + size % 2
    raise KeyError("data.tar.xz")


def _extracted(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read()


def _missing(path: Path, folder: Path) -> EdgepruneError:
    what = f"the emulated system needs Debian's package {path.name}, which is not there"
    commands = f"dpkg --add-architecture arm64 && apt-get update && {_fetch(system_packages(), folder)}"
    return EdgepruneError("emulator-missing", what, where=str(folder), hint=f"on Debian 12, as root: {commands}")


def _fetch(packages: list[DebianPackage] | tuple[DebianPackage, ...], folder: Path) -> str:
    names = " ".join(f"{package.name}:arm64={package.version}" for package in packages)
    return f"mkdir -p {folder} && cd {folder} && apt-get download {names}"
