"""What `report` reads and writes."""

from __future__ import annotations

import json

import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.road.reporting import read_bench, write_report

INSPECTION = {"target": None, "precision": "fp32", "layers": [], "accuracy": None}


def test_a_page_is_written_with_what_was_measured(tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"board": "emulated-m4", "kind": "emulated", "instructions": 12345, "layers": []}))
    out = tmp_path / "page.html"
    report = write_report("model", INSPECTION, [bench], out)
    assert report == {
        "output": str(out),
        "bytes": out.stat().st_size,
        "runs": [{"board": "emulated-m4", "kind": "emulated"}],
    }
    assert "12,345" in out.read_text()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{}", b'{"error": {}}', b'{"board": 1, "kind": 2}'])
def test_what_bench_did_not_write_is_refused(tmp_path, content):
    bench, out = tmp_path / "bench.json", tmp_path / "page.html"
    bench.write_bytes(content)
    with pytest.raises(EdgepruneError, match=r"no JSON can be read|it is not what `bench --json` writes") as caught:
        write_report("model", INSPECTION, [bench], out)
    assert (caught.value.code, caught.value.where) == ("bench-invalid", str(bench))
    assert "edgeprune bench PACKAGE --json > bench.json" in caught.value.hint
    assert not out.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EdgepruneError) as caught:
        read_bench(tmp_path / "none.json")
    assert caught.value.code == "bench-invalid"
