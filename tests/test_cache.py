"""The cache on disk: what it gives is what was put, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cache import VARIABLE, Cache, content_key, open_cache


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_put_is_found_by_another_process_too(tmp_path: Path) -> None:
    Cache(tmp_path).put("kind", "ab12", b"data")
    assert Cache(tmp_path).get("kind", "ab12") == b"data"
    assert Cache(tmp_path).get("other", "ab12") is None
    assert Cache(tmp_path).get("kind", "ab13") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-1] + b"?",
        lambda content: b"edgeprune cache 0\n" + content[18:],
        lambda content: content[:30],
    ],
    ids=["empty", "short", "long", "changed", "other format", "cut in the digest"],
)
def test_a_damaged_file_counts_as_missing_and_is_replaced(damage, tmp_path: Path) -> None:
    Cache(tmp_path).put("kind", "ab12", b"data")
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert Cache(tmp_path).get("kind", "ab12") is None
    assert Cache(tmp_path).made("kind", "ab12", lambda: b"anew") == b"anew"
    assert Cache(tmp_path).get("kind", "ab12") == b"anew"


def test_without_a_folder_things_are_kept_in_memory() -> None:
    cache = Cache()
    calls = []
    for _ in range(2):
        assert cache.made("kind", "k", lambda: calls.append(1) or b"data") == b"data"
    assert calls == [1]


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    writer = Cache(tmp_path)
    for index in range(6):
        writer.put("kind", f"{index:02d}", bytes(1000))
    for index, path in enumerate(sorted(files(tmp_path))):
        os.utime(path, (index, index))
    assert Cache(tmp_path).get("kind", "00") is not None
    Cache(tmp_path, limit=3200).put("kind", "06", bytes(1000))
    assert sorted(path.name for path in files(tmp_path)) == ["00", "05", "06"]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    cache.put("kind", "k", b"data")
    assert Cache(tmp_path / "file").get("kind", "k") is None


def test_the_variable_moves_the_cache_or_turns_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert open_cache().folder == tmp_path / "mine"
    for off in ("", "off"):
        monkeypatch.setenv(VARIABLE, off)
        assert open_cache().folder is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache().folder == tmp_path / "xdg" / "edgeprune"


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert open_cache().folder is None


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_keys_tell_sequences_apart(left: list[bytes], right: list[bytes]) -> None:
    assert (content_key(*left) == content_key(*right)) == (left == right)
