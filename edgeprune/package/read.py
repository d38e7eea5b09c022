"""Reads packages and trusts nothing in them that was not checked."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.package.format import (
    MANIFEST,
    MAX_MEMBER_BYTES,
    MAX_TOTAL_BYTES,
    SEAL,
    SEAL_BYTES,
    is_member_name,
)
from edgeprune.package.manifest import SCHEMA, Manifest

_UNREADABLE = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError, IndexError, KeyError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)

_ALWAYS_ALLOWED_BYTES = 64 << 20
_MAX_RATIO = 256


@dataclass(frozen=True)
class PackageFile:
    """A package whose every member was verified; `members` are their contents by name."""

    path: Path
    manifest: Manifest
    members: dict[str, bytes]


class _Schema(msgspec.Struct):
    schema: int


def read_package(path: str | PathLike[str]) -> PackageFile:
    """Read and verify the package at `path`.

    Raises EdgepruneError: package-missing; package-newer; package-corrupt, which names the member that is not what
    the manifest says.
    """
    path = Path(path)
    content = _read_file(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = _checked_names(path, archive, len(content))
            manifest = _read_manifest(path, archive)
            _compare_names(path, names, manifest)
            members = {name: _read_member(path, archive, name) for name in sorted(manifest.members)}
    except _UNREADABLE as error:
        raise _corrupt(path, "", f"this is no package: {error}") from error
    for name, expected in manifest.members.items():
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise _corrupt(path, name, "its sha256 is not the one in the manifest")
    _check_seal(path, content)
    return PackageFile(path, manifest, members)


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TOTAL_BYTES:
            raise _corrupt(path, "", "the file is larger than any package")
        return path.read_bytes()
    except OSError as error:
        hint = "`edgeprune compile MODEL --target T -o OUT.edge` makes one"
        what = f"the package cannot be read: {error.strerror or error}"
        raise EdgepruneError("package-missing", what, where=str(path), hint=hint) from error


def _checked_names(path: Path, archive: zipfile.ZipFile, stored: int) -> set[str]:
    names: set[str] = set()
    for entry in archive.infolist():
        if not is_member_name(entry.filename):
            raise _corrupt(path, ascii(entry.filename), "a member may not have this name")
        if entry.filename in names:
            raise _corrupt(path, entry.filename, "it is there twice")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _corrupt(path, entry.filename, "it is compressed in a way that packages do not use")
        if entry.file_size > MAX_MEMBER_BYTES:
            raise _corrupt(path, entry.filename, f"it claims {entry.file_size} bytes, more than a member may have")
        names.add(entry.filename)
    claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > min(MAX_TOTAL_BYTES, max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * stored)):
        raise _corrupt(path, "", f"{stored} bytes claim to unpack to {claimed}")
    return names


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    if MANIFEST not in archive.namelist():
        raise _corrupt(path, MANIFEST, "it is missing")
    text = _read_member(path, archive, MANIFEST)
    try:
        schema = msgspec.json.decode(text, type=_Schema).schema
        if schema > SCHEMA:
            what = f"the package has schema {schema}, and this version reads up to {SCHEMA}"
            raise EdgepruneError("package-newer", what, where=str(path), hint="upgrade edgeprune, or compile again")
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _corrupt(path, MANIFEST, str(error)) from error


def _compare_names(path: Path, names: set[str], manifest: Manifest) -> None:
    listed = {MANIFEST, *manifest.members}
    for name in sorted(listed - names):
        raise _corrupt(path, name, "it is missing")
    for name in sorted(names - listed):
        raise _corrupt(path, name, "the manifest does not list it")


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except _UNREADABLE as error:
        raise _corrupt(path, name, str(error)) from error


def _check_seal(path: Path, content: bytes) -> None:
    seal = content[-SEAL_BYTES:]
    if not seal.startswith(SEAL) or hashlib.sha256(content[:-64]).hexdigest().encode() != seal[len(SEAL) :]:
        raise _corrupt(path, "", "the archive's own bytes are not what its seal says")


def _corrupt(path: Path, member: str, what: str) -> EdgepruneError:
    where = f"{path}: {member}" if member else str(path)
    what = f"member {member}: {what}" if member else what
    hint = "the file was changed or cut short: copy or compile it again"
    return EdgepruneError("package-corrupt", what, where=where, hint=hint)
