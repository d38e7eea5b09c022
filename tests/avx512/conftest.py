"""The cases of kernels and lowering are run here too."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / stage) for stage in ("kernels", "lowering")]
