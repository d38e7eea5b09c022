"""Which job is which: a key of everything that decides its result, so that finished work is found again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgeprune import __version__
from edgeprune.data import load_card
from edgeprune.errors import EdgepruneError
from edgeprune.model_file import callable_parts
from edgeprune.sweep.grid import Job

_KEY_LENGTH = 12


def job_keys(jobs: Iterable[Job]) -> dict[str, Job]:
    """Every job by its key: contents of model, architecture and data, target, options and our version.

    Weights that a model keeps in other files, and modules that a Python file imports, are not looked at.
    Raises EdgepruneError (file-missing, and what reading a data card raises).
    """
    digests: dict[str, str] = {}
    keys = {}
    for job in jobs:
        for path in (job.model, job.arch, job.data):
            if path is not None and path not in digests:
                digests[path] = load_card(path).digest() if path == job.data else _file_digest(path)
        parts = [digests[path] if path is not None else "" for path in (job.model, job.arch, job.data)]
        plain = msgspec.structs.replace(job, model=Path(job.model).name, arch=None, data=None)
        facts = [__version__, *parts, msgspec.json.encode(plain, order="deterministic").decode()]
        keys[hashlib.sha256("\n".join(facts).encode()).hexdigest()[:_KEY_LENGTH]] = job
    return keys


def package_name(job: Job, key: str) -> str:
    """The file name of the job's package."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(job.model).stem)[:60]
    return f"{stem}-{job.target}-{key}.edge"


def _file_digest(spec: str) -> str:
    parts = callable_parts(spec)
    path = Path(parts[0] if parts is not None else spec)
    if not path.is_file():
        raise EdgepruneError("file-missing", f"there is no file {path}", where="sweep", hint="check the path")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{content}:{parts[1]}" if parts is not None else content
