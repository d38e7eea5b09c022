"""Libraries of every architecture: what they depend on, and that they run under qemu-user."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from board_model import board_outputs, board_package, board_rows

from edgeprune.runner.build import build_runner
from edgeprune.target import cpu_flags_of, load_target, target_names
from edgeprune.toolchain import baseline, zig_triple

MACHINES = {"x86_64": 62, "aarch64": 183, "armv7": 40, "riscv64": 243}
GNU_NAME = re.compile(rb"\0(lib[a-z_+-]+\.so[.0-9]*)\0")
EMULATORS = {
    "beaglebone-black": ("qemu-arm", "-cpu", "cortex-a8"),
    "riscv64-generic": ("qemu-riscv64",),
    "android-arm64": ("qemu-aarch64", "-cpu", "cortex-a76"),
    "jetson-nano": ("qemu-aarch64", "-cpu", "cortex-a57"),
}


@pytest.mark.parametrize("name", sorted(EMULATORS))
def test_libraries_need_libc_alone(name: str) -> None:
    target = load_target(name)
    library = board_package(name).member("model.so")
    assert int.from_bytes(library[18:20], "little") == MACHINES[target.machine]
    needed = {found.decode() for found in GNU_NAME.findall(library.replace(b"\0", b"\0\0"))}
    libc = {"libc.so"} if name.startswith("android") else {"libc.so.6", "libpthread.so.0"}
    assert needed <= libc


@pytest.mark.parametrize("name", sorted(EMULATORS))
def test_they_run_where_they_are_for(name: str, tmp_path: Path) -> None:
    command = EMULATORS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    (tmp_path / "edge-run").write_bytes(build_runner(load_target(name)))
    (tmp_path / "edge-run").chmod(0o755)
    (tmp_path / "model.so").write_bytes(board_package(name).member("model.so"))
    (tmp_path / "inputs.bin").write_bytes(board_rows().tobytes())
    words = ["run", "--library", "model.so", "--inputs", "inputs.bin", "--outputs", "outputs.bin", "--threads", "2"]
    subprocess.run([*command, "./edge-run", *words], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    found = np.fromfile(tmp_path / "outputs.bin", np.float32).reshape(3, 1, 3)
    np.testing.assert_allclose(found, board_outputs(board_rows()), atol=1e-5)


def test_every_target_has_a_compiler() -> None:
    triples = {name: zig_triple(load_target(name)) for name in target_names() if name != "host"}
    assert triples["raspberry-pi-4"] == "aarch64-linux-gnu.2.28"
    assert triples["beaglebone-black"] == "arm-linux-gnueabihf.2.28"
    assert triples["android-arm64"] == "aarch64-linux-musl"
    assert triples["x86-64-v3"] == "x86_64-linux-gnu.2.34"
    assert zig_triple(load_target("beaglebone-black"), "musl") == "arm-linux-musleabihf"
    assert baseline(load_target("x86-64-v4")) == "-mcpu=x86_64"
    assert triples["cortex-m4"] == "thumb-freestanding-eabihf"
    assert triples["riscv32imc"] == "riscv32-freestanding-none"
    targets = [load_target(name) for name in triples]
    assert {target.machine for target in targets if not target.bare} == set(MACHINES)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\nflags : other\n", {"fpu", "avx2", "fma"}),
        ("processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32\n", {"fp", "asimd", "crc32"}),
        ("hart\t: 0\nisa\t\t: rv64imafdc_zicsr_zba\nmmu\t: sv39\n", {*"imafdc", "zicsr", "zba"}),
        ("", set()),
        ("no colon here\n: \n", set()),
    ],
)
def test_features_as_linux_lists_them(text: str, flags: set[str]) -> None:
    assert cpu_flags_of(text) == flags
