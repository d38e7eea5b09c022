"""What a peer takes on emulated Raspberry Pis: `benchmarks/arm_peers.py {litert,onnxruntime} MODEL --root R --site S`.

Prints instructions and predicted cycles of an inference on one thread, counted as benchmarks/arm.py counts ours: the
peer's own package for 64-bit Arm, called by a Python for 64-bit Arm, under qemu-user with the board's processor and
the faked /proc and /sys that it probes. Cycles are executed blocks by llvm-mca's model of the core.

The two folders, on Debian 12 as root after `dpkg --add-architecture arm64 && apt-get update`:

    apt-get download {python3.11-minimal,libpython3.11-minimal,libpython3.11-stdlib,libc6,libstdc++6,libgcc-s1}:arm64 \
                     {zlib1g,libexpat1,libffi8,libbz2-1.0,liblzma5,libgomp1}:arm64
    for file in *.deb; do dpkg-deb -x $file R; done
    pip download --no-deps --only-binary :all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
                 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
                 numpy onnxruntime ai-edge-litert==1.4.0
    for file in *.whl; do python -m zipfile -e $file S; done
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeprune.emulate.emulator import set_up
from edgeprune.emulate.predict import predictor_for
from edgeprune.target import load_target

TARGETS = ("raspberry-pi-4", "raspberry-pi-3", "raspberry-pi-5")

_MARKS = """
void begin(void) { __asm__ volatile("hint #0x70" ::: "memory"); }
void end(void) { __asm__ volatile("hint #0x71" ::: "memory"); }
"""
_BEGINNING = """
import ctypes, sys
import numpy as np
model, marks, rng = sys.argv[1], ctypes.CDLL(sys.argv[2]), np.random.default_rng(0)
"""
_PEERS = {
    "litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model, num_threads=1)
interpreter.allocate_tensors()
taken = interpreter.get_input_details()[0]
x = rng.integers(-128, 127, taken["shape"]) if taken["dtype"] == np.int8 else rng.normal(size=taken["shape"])
interpreter.set_tensor(taken["index"], x.astype(taken["dtype"]))
run = interpreter.invoke
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
taken = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in taken.shape]
x = {taken.name: rng.normal(size=shape).astype(np.float32)}
run = lambda: session.run(None, x)
""",
}
_END = """
run()
for _ in range(2):
    marks.begin()
    run()
    marks.end()
"""


def main() -> None:
    """Print a row a board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=_PEERS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    asked = parser.parse_args()
    print(f"{'target':<18}{'M instr.':>10}{'M cycles':>10}")
    for target in asked.targets:
        with tempfile.TemporaryDirectory() as folder:
            instructions, cycles = measure(asked, target, Path(folder))
        print(f"{target:<18}{instructions / 1e6:>10.3f}{cycles / 1e6:>10.3f}", flush=True)


def measure(asked: argparse.Namespace, name: str, folder: Path) -> tuple[int, float]:
    """Instructions and predicted cycles of the second marked inference."""
    target = load_target(name)
    emulator = set_up(target, folder)
    for top in ("proc", "sys"):
        shutil.rmtree(asked.root / top, ignore_errors=True)
        if (emulator.root / top).exists():
            shutil.copytree(emulator.root / top, asked.root / top)
    command = [str(asked.root) if part == str(emulator.root) else part for part in emulator.tracing]
    script = folder / "peer.py"
    script.write_text(_BEGINNING + _PEERS[asked.peer] + _END)
    places = {"PYTHONHOME": asked.root.resolve() / "usr", "PYTHONPATH": asked.site.resolve(), "OMP_NUM_THREADS": 1}
    settings = [word for key, value in places.items() for word in ("-E", f"{key}={value}")]
    python = str(asked.root / "usr" / "bin" / "python3.11")
    marks = str(_marks(folder))
    subprocess.run([*command, *settings, python, str(script), str(asked.model), marks], check=True)
    return emulator.regions()[-1], predictor_for(target).cycles(emulator.executed())[-1]


def _marks(folder: Path) -> Path:
    """The library that executes the marks between which is counted."""
    source, built = folder / "marks.c", folder / "marks.so"
    source.write_text(_MARKS)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28", "-O2", "-shared"]
    subprocess.run([*command, str(source), "-o", str(built)], check=True)
    return built


if __name__ == "__main__":
    main()
