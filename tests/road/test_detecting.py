from __future__ import annotations

import msgspec
import pytest
from adb_board import AdbServer
from ssh_board import SshBoard

from edgeprune.board import load_board
from edgeprune.road.detecting import adb_devices, detect


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No adb but that of the test."""
    (tmp_path / "nobody").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def test_this_machine_is_there():
    found = detect([load_board("local")])[0]
    assert (found["detected"], found["problem"]) == (True, None)
    assert found["detected_target"].startswith("x86-64-")
    assert found["machine"]["cores"] >= 1


def test_boards_that_are_not_there(tmp_path):
    gone = msgspec.structs.replace(load_board("raspberry-pi-4"), host="127.0.0.1", port=1)
    found = detect([load_board("raspberry-pi-4"), load_board("android-arm64"), gone])
    assert [board["detected"] for board in found] == [False, False, False]
    assert found[0]["problem"] == "it has no address yet"
    assert found[1]["problem"] == "adb sees no device"
    assert found[2]["problem"].startswith("board raspberry-pi-4 cannot be reached: ")
    assert adb_devices() == []


def test_ssh_boards_are_asked_whether_they_fit(tmp_path):
    board = SshBoard(tmp_path / "board")
    fits = board.board()
    other = board.board(target="raspberry-pi-5")
    unknown = board.board(target="no-such-target")
    found = detect([fits, other, unknown])
    board.close()
    assert [each["detected"] for each in found] == [True, True, True]
    assert [each["detected_target"] for each in found] == ["x86-64-v2", None, None]
    assert found[1]["problem"].endswith("and board shelf is x86_64")
    assert found[2]["problem"] == "there is no target 'no-such-target'"
    assert list(board.home.iterdir()) == []


def test_adb_devices_are_found(tmp_path, monkeypatch):
    server = AdbServer(tmp_path / "devices", {"AB12": "device", "CD34": "unauthorized"})
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    assert adb_devices() == [{"serial": "AB12", "state": "device"}, {"serial": "CD34", "state": "unauthorized"}]
    phone = load_board("android-arm64")
    found = detect([phone, msgspec.structs.replace(phone, serial="CD34")])
    server.close()
    assert (found[0]["detected"], found[0]["detected_target"]) == (True, None)
    assert found[0]["problem"].endswith("and board android-arm64 is x86_64")
    assert found[1]["problem"] == "board android-arm64 cannot be reached: adb says that it is unauthorized"
