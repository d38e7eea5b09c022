"""The command line over ssh, nothing replaced: a package compiled here, edge-run there."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from board_model import board_package, board_rows
from ssh_board import SshBoard

TARGET = "x86-64-v2" if platform.machine() == "x86_64" else "aarch64-generic"


@pytest.fixture
def shelf(tmp_path):
    board = SshBoard(tmp_path / "board")
    facts = board.board(target=TARGET)
    keys = ("target", "transport", "host", "port", "user", "identity", "known_hosts")
    lines = [f"{key} = {getattr(facts, key)!r}" for key in keys]
    (tmp_path / "shelf.toml").write_text("\n".join(lines).replace("'", '"'))
    yield board, tmp_path / "shelf.toml"
    board.close()


def test_deploy_verify_run_and_bench(cli, shelf, tmp_path):
    board, file = shelf
    package = board_package(TARGET).path
    deployed = cli("deploy", package, "--board", file, "--json").json
    assert deployed["verified"]["exact"] is True
    verified = cli("verify", package, "--board", file, "--samples", "5", "--threads", "2", "--json").json
    assert (verified["board"], verified["samples"], verified["exact"]) == ("shelf", 5, True)
    np.savez(tmp_path / "in.npz", x=board_rows())
    for name, extra in (("here", []), ("there", ["--board", file])):
        report = cli("run", package, "-i", tmp_path / "in.npz", "-o", tmp_path / f"{name}.npz", *extra, "--json")
        assert report.json["rows"] == 3
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()
    told = cli("bench", package, "--board", file, "--seconds", "0.1", "--json").json
    assert (told["kind"], told["board"], told["peers"]) == ("measured", "shelf", [])
    assert 0 < told["latency_ms"]["min"] <= told["latency_ms"]["p90"]
    assert told["latency_ms"]["runs"] >= 10
    assert {"first", "second"} <= {layer["name"] for layer in told["layers"]}
    assert told["peak_rss_bytes"] > 100_000
    names = {name.split("/")[-1] for name in board.left()}
    assert names == {"edge-run", "model.so"}
    assert all("/models/" in name for name in board.left())


def test_an_error_of_the_board_is_one_object(cli, shelf):
    board, file = shelf
    board.write_known_hosts()
    finished = cli("verify", board_package(TARGET).path, "--board", file, "--json")
    assert (finished.code, finished.json["error"]["code"], finished.err) == (1, "board-key-unknown", "")
