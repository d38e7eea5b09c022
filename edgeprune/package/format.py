"""The .edge file: a zip archive whose every byte is accounted for.

Members are sorted, carry one fixed date and are compressed at one level, so the same content gives the same bytes.
`manifest.json` holds the sha256 of every other member; the archive's comment holds the sha256 of everything before it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from os import PathLike

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes
from edgeprune.package.manifest import Manifest

MANIFEST = "manifest.json"
MODEL = "model.onnx"
SEAL = b"edge-sha256:"
SEAL_BYTES = len(SEAL) + 64
MAX_MEMBER_BYTES = 1 << 30
MAX_TOTAL_BYTES = 2 << 30

_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
_DATE = (1980, 1, 1, 0, 0, 0)


def is_member_name(name: str) -> bool:
    """Whether `name` is a relative path of plain names without `..`, fit for every file system."""
    return len(name) <= 255 and _NAME.fullmatch(name) is not None


def write_package(path: str | PathLike[str], manifest: Manifest, members: Mapping[str, bytes]) -> Manifest:
    """Write `members` and `manifest` to the package `path`, whole or not at all; gives the manifest as written.

    Raises EdgepruneError (output-unwritable).
    """
    _check(members)
    sums = {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)}
    sealed = msgspec.structs.replace(manifest, members=sums)
    write_bytes(path, _archive(encode_manifest(sealed), members))
    return sealed


def encode_manifest(manifest: Manifest) -> bytes:
    """The text of manifest.json."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def _archive(manifest: bytes, members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = SEAL + bytes(64)
        for name, content in [(MANIFEST, manifest), *sorted(members.items())]:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=6)
    body = stream.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def _check(members: Mapping[str, bytes]) -> None:
    for name in members:
        if name == MANIFEST or not is_member_name(name):
            raise ValueError(f"'{name}' is no name for a member")
    too_big = [name for name, content in members.items() if len(content) > MAX_MEMBER_BYTES]
    if too_big or sum(map(len, members.values())) > MAX_TOTAL_BYTES:
        what = f"a package holds at most {MAX_TOTAL_BYTES >> 30} GiB, {MAX_MEMBER_BYTES >> 30} GiB a member"
        hint = "the model is too large for this format"
        raise EdgepruneError("package-too-large", what, where=", ".join(too_big), hint=hint)
