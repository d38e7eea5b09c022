"""Kernels compiled for 64-bit Arm and run under qemu-user, called as `harness.Compiled` is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.lowering.compile import compile_object
from edgeprune.target import load_target

EMULATOR = "qemu-aarch64"
TARGETS: Mapping[str, str] = {"smull": "raspberry-pi-4", "sdot": "raspberry-pi-5"}
MACHINES: Mapping[str, Machine] = {name: Machine(4, 32, 32768, 524288, name) for name in TARGETS}

_COMPILER = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl")
_MOST = 12
_MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
void kernel();
int main(int count, char **words) {
  void *p[%(most)d] = {0};
  int pointers = count - 3, begin = atoi(words[1]), end = atoi(words[2]);
  long size = 0;
  for (int i = 0; i < pointers; i++) {
    FILE *file = fopen(words[3 + i], "rb");
    fseek(file, 0, SEEK_END); size = ftell(file); rewind(file);
    p[i] = aligned_alloc(64, (size + 127) / 64 * 64);
    if (fread(p[i], 1, size, file) != (size_t)size) return 1;
    fclose(file);
  }
  switch (pointers) {
%(cases)s
  default: return 2;
  }
  FILE *file = fopen(words[count - 1], "wb");
  return fwrite(p[pointers - 1], 1, size, file) != (size_t)size || fclose(file);
}
"""


def skip_without_emulator() -> None:
    """Skip the test that calls this, and say why, where kernels cannot run."""
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")


class CompiledForArm:
    """One kernel as a program of its own; arrays go to it and come back as files."""

    def __init__(self, kernel: Kernel, dot: str) -> None:
        self.kernel, self.target = kernel, TARGETS[dot]
        self._program = _program(kernel.func, self.target)

    def __call__(
        self, inputs: Sequence[np.ndarray], output: np.ndarray, begin: int = 0, end: int | None = None
    ) -> None:
        """Do units [begin, end), all when `end` is None."""
        arrays = [*inputs, *self.kernel.constants, output]
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "program")
            program.write_bytes(self._program)
            program.chmod(0o755)
            names = [str(Path(folder, str(number))) for number in range(len(arrays))]
            for name, array in zip(names, arrays, strict=True):
                np.ascontiguousarray(array).tofile(name)
            last = self.kernel.units if end is None else end
            command = [EMULATOR, "-cpu", load_target(self.target).cpu, str(program), str(begin), str(last), *names]
            subprocess.run(command, check=True, timeout=60)
            output[:] = np.fromfile(names[-1], output.dtype).reshape(output.shape)


@cache
def _main() -> bytes:
    """The object file of the program around a kernel."""
    cases = []
    for count in range(2, _MOST + 1):
        types = ", ".join(["void *"] * count)
        values = ", ".join(f"p[{number}]" for number in range(count))
        cases.append(f"  case {count}: ((void (*)({types}, int32_t, int32_t))kernel)({values}, begin, end); break;")
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "main.c"), Path(folder, "main.o")
        source.write_text(_MAIN % {"most": _MOST, "cases": "\n".join(cases)})
        subprocess.run([*_COMPILER, "-O1", "-Wno-deprecated-non-prototype", "-c", str(source), "-o", built], check=True)
        return built.read_bytes()


@cache
def _program(func: object, target: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        main, kernel, program = (Path(folder, name) for name in ("main.o", "kernel.o", "program"))
        main.write_bytes(_main())
        compile_object({"kernel": func}, load_target(target), kernel)
        subprocess.run([*_COMPILER, "-static", main, kernel, "-o", program], check=True)
        return program.read_bytes()
