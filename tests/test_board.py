from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.board import Address, at_address, board_folder, board_names, load_board, parse_address
from edgeprune.errors import EdgepruneError
from edgeprune.target import target_names

NAMED = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "jetson-orin", "jetson-nano", "beaglebone-black")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Where the user's own boards are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config/edgeprune/boards"
    folder.mkdir(parents=True)
    assert board_folder() == folder
    return folder


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    return caught.value


def test_every_board_names_a_target_that_exists():
    assert {"local", "android-arm64", *NAMED} <= set(board_names())
    for name in board_names():
        board = load_board(name)
        assert (board.name, board.target in target_names(), bool(board.description)) == (name, True, True)


@pytest.mark.parametrize(("given", "meant"), [("locl", "local"), ("rasberry-pi-4", "raspberry-pi-4")])
def test_an_unknown_board_suggests_the_nearest(given, meant):
    caught = error(lambda: load_board(given))
    assert (caught.code, caught.what, caught.where) == ("board-unknown", f"there is no board '{given}'", "--board")
    assert meant in caught.hint


@pytest.mark.parametrize(
    ("text", "host", "port", "user"),
    [
        ("192.168.1.7", "192.168.1.7", 0, ""),
        ("pi@pi.local", "pi.local", 0, "pi"),
        ("kitchen_pi:2222", "kitchen_pi", 2222, ""),
        ("pi@[fe80::1%eth0]:22", "fe80::1%eth0", 22, "pi"),
        ("[::1]", "::1", 0, ""),
    ],
)
def test_addresses(text, host, port, user):
    assert parse_address(text) == Address(host, port, user)
    board = load_board(f"raspberry-pi-4@{text}")
    assert (board.name, board.target, board.host, board.port, board.user) == (
        *("raspberry-pi-4", "raspberry-pi-4"),
        *(host, port, user),
    )


def test_a_serial_number_is_the_address_of_adb():
    assert load_board("android-arm64@192.168.1.5:5555").serial == "192.168.1.5:5555"
    assert load_board("android-arm64").serial == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'' is no name for a board"),
        ("../../etc/passwd", "'../../etc/passwd' is no name for a board"),
        ("-oProxyCommand=touch x", "'-oProxyCommand=touch x' is no name for a board"),
        ("local;reboot", "'local;reboot' is no name for a board"),
        ("Lo\u0441al", "'Lo\\u0441al' is no name for a board"),
        ("raspberry-pi-4@", "'' is no address"),
        ("raspberry-pi-4@-oProxyCommand=x", "'-oProxyCommand=x' is no host name"),
        ("raspberry-pi-4@$(reboot)", "'$(reboot)' is no host name"),
        ("raspberry-pi-4@host name", "'host name' is no host name"),
        ("raspberry-pi-4@host\nname", "'host\\nname' is no host name"),
        ("raspberry-pi-4@[::1%$(x)]", "'::1%$(x)' is no host name"),
        ("raspberry-pi-4@-l root@host", "'-l root' is no user name"),
        ("raspberry-pi-4@host:99999", "99999 is no port"),
        ("raspberry-pi-4@a@b@c", "'a@b@c' is no address"),
        ("android-arm64@-s x", "'-s x' is no serial number of adb"),
        ("local@somewhere", "board local has no address"),
    ],
)
def test_what_is_no_board_is_refused(text, what):
    caught = error(lambda: load_board(text))
    assert (caught.code, caught.what) == ("board-invalid", what)


@given(st.text(max_size=40))
def test_whatever_is_given_ends_in_a_board_or_a_clear_error(text):
    for shown in (text, f"raspberry-pi-4@{text}", f"android-arm64@{text}"):
        try:
            board = load_board(shown)
        except EdgepruneError as caught:
            assert caught.exit_code == 2
            assert caught.what.isprintable() or caught.code == "board-file-missing"
        else:
            for value in (board.host, board.user, board.serial):
                assert not value.startswith("-")
                assert not set(value) & set(" '\"$`;|&<>()\\\n\t*?!#~/")


def test_boards_of_ones_own(own, tmp_path):
    (own / "kitchen.toml").write_text('like = "raspberry-pi-4"\nhost = "192.168.1.7"\nuser = "pi"\n')
    board = load_board("kitchen")
    assert (board.name, board.target, board.host, board.user) == ("kitchen", "raspberry-pi-4", "192.168.1.7", "pi")
    assert load_board("kitchen@other").host == "other"
    assert "kitchen" in board_names()
    (own / "raspberry-pi-4.toml").write_text('like = "raspberry-pi-4"\nhost = "mine"\n')
    assert load_board("raspberry-pi-4").host == "mine"
    path = tmp_path / "shelf.toml"
    path.write_text('target = "aarch64-generic"\ntransport = "ssh"\nhost = "shelf"\njump = "me@gate:22"\n')
    assert (load_board(str(path)).name, load_board(str(path)).jump) == ("shelf", "me@gate:22")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("like = 3", "there is no board 3"),
        ('like = "raspbery"', "there is no board 'raspbery'"),
        ("like =", "the file is no TOML: "),
        ("hosts = 1", "Object contains unknown field `hosts`"),
        ('host = "-x"', "'-x' is no host name"),
        ('host = "fe80::1%$(x)"', "'fe80::1%$(x)' is no host name"),
        ('user = "a b"', "'a b' is no user"),
        ('folder = "/"', "'/' is no folder"),
        ('folder = "../x"', "'../x' is no folder"),
        ('folder = "a/../../x"', "'a/../../x' is no folder"),
        ('folder = "-rf x"', "'-rf x' is no folder"),
        ('serial = "$(x)"', "'$(x)' is no serial"),
        ('jump = "a;b"', "'a;b' is no host name"),
        ("port = 70000", "70000 is no port"),
        ("threads = 0", "0 threads"),
        ("wait_seconds = -1", "-1.0 is no wait_seconds"),
        ("connect_seconds = nan", "nan is no connect_seconds"),
        ('transport = "telnet"', "Invalid enum value 'telnet'"),
    ],
)
def test_files_that_are_no_board(own, text, what):
    (own / "mine.toml").write_text(text if text.startswith("like") else f'like = "raspberry-pi-4"\n{text}\n')
    caught = error(lambda: load_board("mine"))
    assert caught.code == "board-invalid"
    assert caught.what.startswith(what)
    assert str(own / "mine.toml") in caught.where


def test_a_board_may_be_like_another_of_ones_own(own):
    (own / "base.toml").write_text('like = "raspberry-pi-4"\nuser = "pi"\nport = 22\n')
    (own / "kitchen.toml").write_text('like = "base"\nhost = "kitchen"\nport = 2222\n')
    board = load_board("kitchen")
    assert (board.name, board.target, board.user, board.host, board.port) == (
        *("kitchen", "raspberry-pi-4", "pi"),
        *("kitchen", 2222),
    )
    (own / "shed.toml").write_text('like = "kitchn"\n')
    assert "kitchen" in error(lambda: load_board("shed")).hint


def test_boards_that_are_like_each_other(own):
    (own / "a.toml").write_text('like = "b"\n')
    (own / "b.toml").write_text('like = "c"\n')
    (own / "c.toml").write_text('like = "a"\n')
    caught = error(lambda: load_board("a"))
    assert (caught.code, caught.what) == (
        "board-invalid",
        "boards are `like` each other in a circle: a -> b -> c -> a",
    )
    assert caught.where == f"{own / 'c.toml'}: like"
    assert "which target and transport it has" in caught.hint
    (own / "b.toml").write_text('like = "a"\n')
    assert error(lambda: load_board("b")).what.endswith("in a circle: b -> a -> b")
    (own / "alone.toml").write_text('like = "alone"\n')
    assert error(lambda: load_board("alone")).what == "there is no board 'alone'"


def test_files_that_cannot_be_read(tmp_path):
    caught = error(lambda: load_board(str(tmp_path / "nowhere.toml")))
    assert caught.code == "board-file-missing"
    assert caught.what == "the board's file cannot be read: No such file or directory"
    (tmp_path / "Two Words.toml").write_text('like = "local"\n')
    assert error(lambda: load_board(str(tmp_path / "Two Words.toml"))).what == "'Two Words' is no name for a board"


def test_an_address_leaves_the_rest_as_it_is():
    board = msgspec.structs.replace(load_board("jetson-nano"), user="me", port=22)
    assert at_address(board, "host") == msgspec.structs.replace(board, host="host")
