"""A hand-written library with the C interface of compiled models, and what it computes in numpy."""

import subprocess
import sys
from pathlib import Path

import numpy as np


def build_tiny_library(path: Path) -> Path:
    """Compile tiny_model.c to the shared library `path`."""
    source = Path(__file__).with_name("tiny_model.c")
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def tiny_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs of one inference."""
    generator = np.random.default_rng(seed)
    return {
        "first": generator.normal(size=(1, 2, 3)).astype(np.float32),
        "second": generator.integers(-3, 3, (1, 2)),
    }
