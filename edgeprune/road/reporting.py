"""The page of `report`: what `inspect` says of a model or package, and what `bench` said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes
from edgeprune.report.page import report_page


def write_report(title: str, inspection: Mapping[str, Any], benches: Sequence[Path], output: Path) -> dict[str, Any]:
    """The JSON of `report`; the page goes to `output`.

    Raises EdgepruneError: bench-invalid where a file of `benches` is not what `bench --json` wrote;
    output-unwritable.
    """
    runs = [read_bench(path) for path in benches]
    page = report_page(title, inspection, runs).encode()
    write_bytes(output, page)
    return {
        "output": str(output),
        "bytes": len(page),
        "runs": [{"board": run["board"], "kind": run["kind"]} for run in runs],
    }


def read_bench(path: Path) -> dict[str, Any]:
    """What `edgeprune bench --json` wrote to `path`. Raises EdgepruneError (bench-invalid)."""
    hint = "write it with: edgeprune bench PACKAGE --json > bench.json"
    try:
        run = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise EdgepruneError("bench-invalid", f"no JSON can be read: {error}", where=str(path), hint=hint) from error
    if not isinstance(run, dict) or not {"board", "kind", "layers"} <= run.keys():
        raise EdgepruneError("bench-invalid", "it is not what `bench --json` writes", where=str(path), hint=hint)
    return run
