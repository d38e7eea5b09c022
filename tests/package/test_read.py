import hashlib
import io
import json
import zipfile

import pytest
from package_factory import MEMBERS, make_manifest

from edgeprune.errors import EdgepruneError
from edgeprune.package.format import SEAL, encode_manifest, write_package
from edgeprune.package.read import read_package


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "a.edge"
    write_package(path, make_manifest(), MEMBERS)
    return path


def refused(path, code="package-corrupt"):
    with pytest.raises(EdgepruneError) as caught:
        read_package(path)
    assert caught.value.code == code
    assert str(path) in caught.value.where
    assert caught.value.hint
    return caught.value


def rebuild(path, change):
    """Rewrite the archive with `change(list of (name, content))`, under a seal that fits."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = SEAL + bytes(64)
        for name, content in change(entries):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    body = stream.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def test_a_rebuilt_package_reads(package):
    rebuild(package, lambda entries: entries)
    assert read_package(package).members == MEMBERS


def test_every_changed_byte_is_found(package):
    whole = package.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << (position % 8)
        package.write_bytes(changed)
        refused(package)


@pytest.mark.parametrize("name", [*(name for name in MEMBERS if MEMBERS[name]), "manifest.json"])
def test_a_changed_byte_names_the_member(package, name):
    with zipfile.ZipFile(package) as archive:
        entry = archive.getinfo(name)
    changed = bytearray(package.read_bytes())
    changed[entry.header_offset + 30 + len(name) + entry.compress_size // 2] ^= 0x10
    package.write_bytes(changed)
    caught = refused(package)
    assert name in caught.what
    assert name in caught.where


def test_every_shorter_file_is_refused(package):
    whole = package.read_bytes()
    for length in range(0, len(whole), 37):
        package.write_bytes(whole[:length])
        refused(package)
    package.write_bytes(b"x" + whole)
    refused(package)
    package.write_bytes(whole + b"x")
    refused(package)


def test_exchanged_content_with_a_right_checksum(package):
    rebuild(package, lambda entries: [(name, b"other" if name == "model.so" else old) for name, old in entries])
    assert "model.so" in refused(package).what


def test_extra_absent_and_doubled_members(package):
    whole = package.read_bytes()
    rebuild(package, lambda entries: [*entries, ("extra.txt", b"")])
    assert "extra.txt" in refused(package).what
    package.write_bytes(whole)
    rebuild(package, lambda entries: [entry for entry in entries if entry[0] != "model.c"])
    assert "model.c" in refused(package).what
    package.write_bytes(whole)
    rebuild(package, lambda entries: [entry for entry in entries if entry[0] != "manifest.json"])
    assert "manifest.json" in refused(package).what
    package.write_bytes(whole)
    with pytest.warns(UserWarning, match="Duplicate"):
        rebuild(package, lambda entries: [*entries, entries[-1]])
    assert "twice" in refused(package).what


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_names_that_leave_the_folder(package, name):
    rebuild(package, lambda entries: [*entries, (name, b"")])
    assert "evil" in refused(package).what


def test_a_bomb_is_refused_before_it_unpacks(package):
    rebuild(package, lambda entries: [*entries, ("zeros", bytes(80 << 20))])
    assert "claim" in refused(package).what


def test_an_older_schema(package):
    def older(text):
        plain = json.loads(text) | {"schema": 1}
        del plain["expanded_bytes"]
        return json.dumps(plain).encode()

    rebuild(package, lambda entries: [(name, older(old) if name == "manifest.json" else old) for name, old in entries])
    assert read_package(package).manifest.expanded_bytes == 0


def test_a_newer_schema(package):
    newer = encode_manifest(make_manifest()).replace(b'"schema": 2', b'"schema": 3, "novelty": true')
    rebuild(package, lambda entries: [(name, newer if name == "manifest.json" else old) for name, old in entries])
    assert "schema 3" in refused(package, "package-newer").what


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_manifest_that_says_nothing(package, text):
    rebuild(package, lambda entries: [(name, text if name == "manifest.json" else old) for name, old in entries])
    assert "manifest.json" in refused(package).what


def test_what_is_no_package(tmp_path):
    (tmp_path / "text.edge").write_text("hello")
    refused(tmp_path / "text.edge")
    refused(tmp_path / "nowhere.edge", "package-missing")
    refused(tmp_path, "package-missing")
