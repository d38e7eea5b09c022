"""Builds edge-run for a target: one static program that needs nothing of the board but its kernel."""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

from edgeprune.cache import Cache, content_key, open_cache
from edgeprune.progress import Progress, silent
from edgeprune.target import Target
from edgeprune.toolchain import baseline, compile_c, toolchain_facts

PROGRAM = "edge-run"
_KIND = "runner"
_FLAGS = (
    "-O2",
    "-std=gnu11",
    "-static",
    "-s",
    "-g0",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-ffunction-sections",
    "-Wl,--gc-sections",
    "-Wl,--build-id=none",
)


def runner_files() -> dict[str, str]:
    """The C sources and headers of edge-run, by file name."""
    folder = resources.files("edgeprune.runner")
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith((".c", ".h"))), key=lambda entry: entry.name
    )
    return {entry.name: entry.read_text(encoding="utf-8") for entry in found}


def build_runner(target: Target, cache: Cache | None = None, progress: Progress = silent) -> bytes:
    """The program for every machine of `target`'s architecture; what was built before comes from `cache`.

    The first time its C library is built too, which takes up to a minute: `progress` says so. It is static, with musl:
    the same file runs beside any C library and on Android, and it loads model libraries by itself. Raises
    EdgepruneError (link-failed).
    """
    cache = open_cache() if cache is None else cache
    files = runner_files()
    facts = (*toolchain_facts(target, "musl"), *_FLAGS, baseline(target))
    everything = [part for pair in files.items() for part in pair]
    return cache.made(_KIND, content_key(*facts, *everything), lambda: _built(files, target, progress))


def _built(files: dict[str, str], target: Target, progress: Progress) -> bytes:
    progress("building edge-run", 0, 1, f"with its C library, once for {target.machine}")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        sources = [file for file in files if file.endswith(".c")]
        compile_c(target, [*_FLAGS, baseline(target), *sources, "-o", PROGRAM], folder, "musl")
        progress("building edge-run", 1, 1, "")
        return (folder / PROGRAM).read_bytes()
