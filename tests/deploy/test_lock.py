from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeprune.board import Board
from edgeprune.deploy.lock import Lock, this_process
from edgeprune.deploy.transport_local import LocalTransport
from edgeprune.errors import EdgepruneError

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def lock(path, holder=""):
    board = Board(name="shelf", target="host", transport="local")
    return Lock(LocalTransport(board, home=Path("/")), str(path), 20.0, holder)


def write(path, *, token="other", holder="ann@far/12", since=None, until=None, boot=BOOT, end="done"):
    now = int(time.time())
    since, until = now - 42 if since is None else since, now + 1000 if until is None else until
    path.write_text(f"{token}\n{holder}\n{since}\n{until}\n{boot}\n{end}\n")


def refusal(taken):
    with pytest.raises(EdgepruneError) as caught:
        taken.take(10, 0)
    assert caught.value.hint == "try again later; wait_seconds in the board's file says how long to wait"
    return caught.value


def test_taken_renewed_and_released(path):
    first, second = lock(path), lock(path)
    first.take(10, 0)
    assert this_process() in path.read_text()
    first.renew(1000)
    assert refusal(second).code == "board-busy"
    second.release()
    assert path.exists()
    first.release()
    assert list(path.parent.iterdir()) == []
    second.take(10, 0)


def test_it_says_who_holds_the_board(path):
    write(path)
    assert refusal(lock(path)).what in (
        "board shelf is in use by ann on far (process 12), for 42 s",
        "board shelf is in use by ann on far (process 12), for 43 s",
    )


HERE = this_process().split("/")[0]


@pytest.mark.parametrize(
    "change",
    [
        {"until": 1},
        {"boot": "another"},
        {"until": "a[$(touch hacked)]"},
        {"holder": f"{HERE}/999999999"},
    ],
    ids=["expired", "rebooted", "nonsense", "dead"],
)
def test_a_stale_lock_is_broken(path, change):
    write(path, **change)
    taken = lock(path)
    taken.take(10, 0)
    assert this_process() in path.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["lock"]


def test_a_process_of_this_machine_that_lives_keeps_it(path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(path, holder=f"{this_process().split('/')[0]}/{child.pid}")
    assert f"process {child.pid}" in refusal(lock(path)).what
    child.communicate(b"\n")
    lock(path).take(10, 0)


def test_half_a_lock_counts_for_a_minute(path):
    path.write_text("half")
    assert refusal(lock(path)).code == "board-busy"
    os.utime(path, (1, 1))
    lock(path).take(10, 0)


def test_what_a_lock_says_is_never_run(path, tmp_path):
    write(path, holder="$(touch hacked)\x1b[31m", since="a[$(touch hacked)]", token="`touch hacked`")
    assert refusal(lock(path)).what == "board shelf is in use by $(touch hacked)?[31m, for 0 s"
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_waiting_tells_for_whom(path):
    write(path)
    told, slept = [], []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            path.unlink()

    lock(path).take(10, 60, progress=lambda *said: told.append(said), sleep=sleep)
    assert len(slept) == 3
    assert all("ann on far (process 12)" in note for *_, note in told)


def test_a_lock_that_was_taken_over_is_noticed(path):
    ours = lock(path)
    ours.take(10, 0)
    write(path)
    with pytest.raises(EdgepruneError) as caught:
        ours.renew(10)
    assert (caught.value.code, caught.value.what) == ("board-busy", "board shelf was taken over by somebody else")
    ours.release()
    assert path.exists()


def test_a_lock_that_cannot_be_renewed(path):
    ours = lock(path)
    ours.take(10, 0)
    path.with_name(f"{path.name}.{path.read_text().split()[0]}").mkdir()
    with pytest.raises(EdgepruneError) as caught:
        ours.renew(10)
    assert caught.value.code == "board-upload-failed"
    assert caught.value.what.startswith("a file cannot be written on board shelf: ")
    assert caught.value.what.endswith("irectory")


def test_a_folder_that_is_not_there(path):
    with pytest.raises(EdgepruneError) as caught:
        lock(path.parent / "none/lock").take(10, 0)
    assert caught.value.code == "board-upload-failed"
    assert caught.value.what == "no file can be made on board shelf: its folder cannot be written"


def test_of_many_at_once_one_has_it(path):
    write(path, until=1)
    winners, losers = [], []

    def attempt():
        try:
            lock(path).take(100, 0)
            winners.append(1)
        except EdgepruneError:
            losers.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 7)
