"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

NO_DATA = "EDGEPRUNE_DATA is not set: real models and data are not tested"

# Before torch and numpy start threads: workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real models and data; tests that need it are skipped where there is none."""
    name = os.environ.get("EDGEPRUNE_DATA")
    if not name:
        pytest.skip(NO_DATA)
    folder = Path(name).resolve()
    if not (folder / "cards").is_dir():
        pytest.fail(f"EDGEPRUNE_DATA names {folder}, which holds no cards/")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, where nobody overlooks it, what was left out for lack of data."""
    missed = [report for report in terminalreporter.stats.get("skipped", []) if NO_DATA in str(report.longrepr)]
    if missed:
        terminalreporter.write_sep("!", f"{len(missed)} tests on real models and data were SKIPPED: set EDGEPRUNE_DATA")
