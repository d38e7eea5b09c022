from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_board import SshBoard


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    """A board that answers to ssh; nothing of the user's own ssh configuration is seen."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    board = SshBoard(tmp_path / "board")
    yield board
    board.close()
