"""Who is who: host keys, our own keys, and addresses at which nobody answers."""

from __future__ import annotations

import socket
import sys

import asyncssh
import pytest
from ssh_board import SshBoard

from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError


def session(board, **changes):
    return Session(transport_of(board.board(**changes)))


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def test_an_unknown_host_key(board):
    board.write_known_hosts()
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-unknown"
    fingerprint = board.host_key.get_fingerprint()
    assert caught.what == f"the host key of board shelf is not known ({fingerprint})"
    assert caught.where == f"pi@127.0.0.1:{board.port}"
    assert f"ssh-keyscan -p {board.port} 127.0.0.1 >> " in caught.hint
    assert board.commands == []


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_another_host_key_than_the_known_one(board, kind):
    board.write_known_hosts(asyncssh.generate_private_key(kind))
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-changed"
    told = f"the host key of board shelf is not the known one ({board.host_key.get_fingerprint()})"
    assert caught.what == f"{told}: this may be another machine"
    assert f"-R '[127.0.0.1]:{board.port}'" in caught.hint
    assert board.commands == []


def test_a_revoked_host_key(board):
    path = board.write_known_hosts(board.host_key)
    path.write_text(f"{path.read_text()}@revoked {path.read_text()}")
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-refused"
    assert "revoked" in caught.what


def test_the_users_ssh_configuration_cannot_switch_the_check_off(board, tmp_path):
    folder = tmp_path / "nobody/.ssh"
    folder.mkdir(parents=True)
    (folder / "config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    assert error(lambda: session(board, known_hosts="").__enter__()).code == "board-key-unknown"


def test_a_key_that_the_board_does_not_take(board):
    other = board.write_key("other")
    caught = error(lambda: session(board, identity=str(other)).__enter__())
    assert caught.code == "board-login-refused"
    assert caught.what == "board shelf refuses every key that was offered"
    assert f"ssh-copy-id -p {board.port} pi@127.0.0.1" in caught.hint


def test_key_files_that_cannot_be_used(board, tmp_path):
    locked = tmp_path / "locked"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(locked), "pkcs8-pem", passphrase="secret")
    caught = error(lambda: session(board, identity=str(locked)).__enter__())
    assert caught.code == "board-identity-invalid"
    assert "ssh-add" in caught.hint
    caught = error(lambda: session(board, identity=str(tmp_path / "nowhere")).__enter__())
    assert (caught.code, caught.where) == ("board-identity-invalid", str(tmp_path / "nowhere"))


def test_boards_that_do_not_answer(board):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        caught = error(lambda: session(board, port=port, connect_seconds=0.5).__enter__())
        assert caught.code == "board-unreachable"
        assert "no answer within" in caught.what
    caught = error(lambda: session(board, port=port).__enter__())
    assert caught.what.startswith("board shelf cannot be reached: ")
    assert error(lambda: session(board, host="no.such.host.invalid").__enter__()).code == "board-unreachable"
    caught = error(lambda: session(board, host=""))
    assert (caught.code, caught.exit_code, caught.what) == ("board-address-missing", 2, "board shelf has no address")


def test_another_host_on_the_way(board, tmp_path):
    jump = SshBoard(tmp_path / "jump", like=board)
    board.write_known_hosts(board.host_key, also=[jump])
    with session(board, jump=f"pi@127.0.0.1:{jump.port}") as opened:
        opened.begin()
        assert opened.place({"x": b"through"}) == 7
    assert jump.forwarded == [board.port]
    board.write_known_hosts(board.host_key)
    caught = error(lambda: session(board, jump=f"pi@127.0.0.1:{jump.port}").__enter__())
    assert (caught.code, caught.where) == ("board-key-unknown", f"pi@127.0.0.1:{jump.port}")
    jump.close()


@pytest.mark.parametrize(("transport", "package"), [("ssh", "asyncssh"), ("adb", "adbutils")])
def test_a_package_that_is_not_installed(board, monkeypatch, transport, package):
    monkeypatch.setitem(sys.modules, package, None)
    caught = error(lambda: transport_of(board.board(transport=transport)))
    assert (caught.code, caught.hint) == ("extra-missing", f"pip install 'edgeprune[{transport}]'")
    assert caught.what == f"board shelf is reached by {transport}, which needs the package {package}"
