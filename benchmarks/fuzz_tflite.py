"""Mutates .tflite files and imports them: every one must load or end in an EdgepruneError, soon, without a crash.

    python benchmarks/fuzz_tflite.py FOLDER --count 10000

FOLDER is searched for .tflite files. Each mutant is imported in a child process; a child that dies by a signal, runs
too long, needs too much memory or raises anything else is a finding, named by model and seed. Exits with 1 then.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import tflite

CHUNK = 100
LARGE = 64
NUMBERS = (0, 1, 2, 3, -1, 127, 255, 256, 65535, 2**31 - 1, -(2**31))
WHOLE = 4
"""One mutant of this many goes all the way to the canonical form; the others are converted."""

SECONDS_A_MUTANT = 20.0
"""Of processor time."""

MEMORY = 6 << 30


def structure(content: bytes) -> np.ndarray:
    """The places of a sound file that are not inside a large constant."""
    free = np.ones(len(content), bool)
    model = tflite.Model.GetRootAs(content)
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size > LARGE:
            offset = data.__array_interface__["data"][0] - start
            free[offset : offset + data.size] = False
    return np.flatnonzero(free[: len(content) - 8])


def mutate(content: bytes, places: np.ndarray, generator: np.random.Generator) -> bytes:
    """One to four changes at `places`: bits, bytes, small or extreme 32-bit numbers, copies of others, a cut end."""
    data = np.frombuffer(content, np.uint8).copy()
    for _ in range(int(generator.integers(1, 5))):
        place, kind = int(generator.choice(places)), int(generator.integers(0, 9))
        if kind < 2:
            data[place] ^= np.uint8(1 << int(generator.integers(0, 8)))
        elif kind < 4:
            data[place] = generator.integers(0, 256)
        elif kind < 6:
            number = generator.choice([*NUMBERS, int(generator.integers(0, len(data)))])
            data[place & ~3 : (place & ~3) + 4] = np.array([number], np.int64).astype(np.int32).view(np.uint8)
        elif kind < 8:
            other = int(generator.choice(places))
            data[place : place + 8] = data[other : other + 8]
        elif generator.random() < 0.3:
            return data[: int(generator.integers(0, len(data)))].tobytes()
    return data.tobytes()


def work(models: list[Path], first: int, count: int) -> None:
    """The child: one JSON line for each mutant on standard output, written before the next one begins."""
    from edgeprune.errors import EdgepruneError
    from edgeprune.frontend.tflite.load import import_tflite, load_tflite

    contents = {model: model.read_bytes() for model in models}
    places = {model: structure(content) for model, content in contents.items()}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.tflite"
        for seed in range(first, first + count):
            model, begin = models[seed % len(models)], time.process_time()
            path.write_bytes(mutate(contents[model], places[model], np.random.default_rng(seed)))
            try:
                (import_tflite if seed // len(models) % WHOLE else load_tflite)(path)
                outcome = "loaded"
            except EdgepruneError as error:
                outcome = error.code
            except BaseException:
                outcome = traceback.format_exc(limit=-4)
            print(json.dumps([seed, model.name, outcome, time.process_time() - begin]), flush=True)


def run_chunk(folder: Path, first: int, count: int) -> list[tuple[int, str, str, float]]:
    """Outcomes of a chunk; the mutant that ended the child early has its signal as its outcome."""
    command = [sys.executable, __file__, str(folder), "--first", str(first), "--count", str(count), "--child"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10 * SECONDS_A_MUTANT * count)
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output, code = (error.stdout or b"").decode(), -1
    found = [tuple(json.loads(line)) for line in output.splitlines() if line.startswith("[")]
    if len(found) < count:
        found.append((first + len(found), "?", f"the process ended with {code}", 0.0))
        rest = count - len(found)
        found += run_chunk(folder, first + len(found), rest) if rest else []
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--largest", type=int, default=400_000, help="bytes of the largest file to mutate")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = sorted(path for path in options.folder.rglob("*.tflite") if path.stat().st_size <= options.largest)
    if options.child:
        work(models, options.first, options.count)
        return 0
    outcomes: Counter[str] = Counter()
    findings, slowest = [], 0.0
    for first in range(options.first, options.first + options.count, CHUNK):
        for seed, name, outcome, seconds in run_chunk(
            options.folder, first, min(CHUNK, options.first + options.count - first)
        ):
            clean = "\n" not in outcome and not outcome.startswith("the process") and seconds < SECONDS_A_MUTANT
            outcomes[outcome if clean else "FINDING"] += 1
            slowest = max(slowest, seconds)
            if not clean:
                findings.append((seed, name))
                print(f"seed {seed} of {name} after {seconds:.1f} s: {outcome}")
        print(f"{sum(outcomes.values())} mutants, slowest {slowest:.1f} s: {dict(outcomes.most_common())}", flush=True)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
