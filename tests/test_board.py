from __future__ import annotations

import pytest

from edgeprune.board import board_names, load_board
from edgeprune.errors import EdgepruneError
from edgeprune.target import target_names


def test_every_board_names_a_target_that_exists():
    assert "local" in board_names()
    for name in board_names():
        board = load_board(name)
        assert (board.name, board.target in target_names()) == (name, True)


def test_an_unknown_board_suggests_the_nearest():
    with pytest.raises(EdgepruneError) as caught:
        load_board("locl")
    assert (caught.value.code, caught.value.exit_code) == ("board-unknown", 2)
    assert "local" in caught.value.hint
