import errno
import os
import subprocess
import sys
import zipfile

import pytest
from package_factory import MEMBERS, make_manifest

from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes
from edgeprune.package.format import is_member_name, write_package
from edgeprune.package.read import read_package


def unwritable(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.code == "output-unwritable"
    assert caught.value.where
    assert caught.value.hint


def test_same_content_same_bytes(tmp_path):
    write_package(tmp_path / "a.edge", make_manifest(), MEMBERS)
    write_package(tmp_path / "b.edge", make_manifest(), dict(reversed(MEMBERS.items())))
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edge", "b.edge"]


def test_any_zip_tool_reads_it(tmp_path):
    write_package(tmp_path / "a.edge", make_manifest(), MEMBERS)
    with zipfile.ZipFile(tmp_path / "a.edge") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(MEMBERS)]
        assert archive.read("model.so") == MEMBERS["model.so"]


def test_what_was_written_is_read(tmp_path):
    written = write_package(tmp_path / "a.edge", make_manifest(), MEMBERS)
    found = read_package(tmp_path / "a.edge")
    assert found.members == MEMBERS
    assert found.manifest == written
    assert set(written.members) == set(MEMBERS)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../b", "a/", "", ".", "a\\b", "C:a", "a\n", "é", "-rf", "a//b"]
)
def test_names_that_no_member_may_have(tmp_path, name):
    assert not is_member_name(name)
    with pytest.raises(ValueError, match="no name"):
        write_package(tmp_path / "a.edge", make_manifest(), {name: b""})


def test_a_folder_that_is_not_there(tmp_path):
    unwritable(lambda: write_package(tmp_path / "nowhere" / "a.edge", make_manifest(), MEMBERS))


def test_a_folder_or_device_in_the_way(tmp_path):
    (tmp_path / "a.edge").mkdir()
    unwritable(lambda: write_package(tmp_path / "a.edge", make_manifest(), MEMBERS))
    os.mkfifo(tmp_path / "pipe")
    unwritable(lambda: write_bytes(tmp_path / "pipe", b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edge", "pipe"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, failing):
    target = tmp_path / "a.edge"
    target.write_bytes(b"before")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    unwritable(lambda: write_package(target, make_manifest(), MEMBERS))
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.edge"]


def test_a_write_the_system_cuts_short(tmp_path):
    script = (
        "import pathlib, resource, signal, sys\n"
        "from edgeprune.errors import EdgepruneError\n"
        "from edgeprune.files import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    write_bytes(pathlib.Path(sys.argv[1]), bytes(100000))\n"
        "except EdgepruneError as error:\n"
        "    sys.exit(error.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.edge")], capture_output=True, text=True)
    assert done.stderr.strip() == "output-unwritable"
    assert list(tmp_path.iterdir()) == []
