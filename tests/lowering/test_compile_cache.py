"""Compiled kernels from the cache: the same bytes, damaged or not, and one object for equal functions."""

from __future__ import annotations

from pathlib import Path

from small_plan import exp_add, multiply

from edgeprune.cache import Cache
from edgeprune.lowering.compile import compile_apart, function_key
from edgeprune.target import load_target

V3 = load_target("x86-64-v3")


def test_equal_functions_share_one_object() -> None:
    compiled = compile_apart({"a": multiply, "b": exp_add, "c": multiply}, V3, Cache())
    assert len(compiled.objects) == 2
    assert compiled.symbols["a"] == compiled.symbols["c"] != compiled.symbols["b"]
    for symbol in compiled.symbols.values():
        assert symbol.encode() in compiled.objects[f"{symbol}.o"]


def test_the_cache_gives_the_same_bytes(tmp_path: Path) -> None:
    fresh = compile_apart({"a": multiply}, V3, Cache())
    Cache(tmp_path)
    assert compile_apart({"a": multiply}, V3, Cache(tmp_path)) == fresh
    assert compile_apart({"a": multiply}, V3, Cache(tmp_path)) == fresh
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-3] + b"bad")
    assert compile_apart({"a": multiply}, V3, Cache(tmp_path)) == fresh


def test_the_key_follows_function_and_target() -> None:
    others = {function_key(exp_add, V3), function_key(multiply, load_target("x86-64-v2"))}
    assert function_key(multiply, V3) not in others
    assert function_key(multiply.with_attr("global_symbol", "other"), V3) == function_key(multiply, V3)
