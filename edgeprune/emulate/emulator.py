"""qemu-user set up as one board."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeprune.cache import Cache
from edgeprune.emulate.blocks import Code, by_code, read_blocks
from edgeprune.emulate.counter import build_counter, read_regions
from edgeprune.emulate.processors import processor_of, write_tree
from edgeprune.errors import EdgepruneError
from edgeprune.target import Target


@dataclass(frozen=True)
class Emulator:
    """What starts a program of the board: `command` plainly, `counting` with a count of instructions besides.

    `tracing` notes the executed blocks too.
    """

    command: tuple[str, ...]
    counting: tuple[str, ...]
    tracing: tuple[str, ...]
    root: Path
    counts: Path
    trace: Path

    def regions(self) -> list[int]:
        """Instructions of each region of the last counted program. Raises EdgepruneError (emulator-failed)."""
        return read_regions(self.counts)

    def executed(self) -> list[dict[Code, int]]:
        """What each region of the last traced program executed. Raises EdgepruneError (emulator-failed)."""
        return [by_code(region) for region in read_blocks(self.trace)]


def set_up(target: Target, folder: Path, cache: Cache | None = None) -> Emulator:
    """An emulator of `target` whose files are under `folder`.

    Raises EdgepruneError: emulator-missing where qemu is not installed; emulator-unsupported; link-failed.
    """
    processor = processor_of(target)
    name = f"qemu-{target.machine}"
    program = shutil.which(name)
    if program is None:
        hint = "apt-get install qemu-user"
        raise EdgepruneError("emulator-missing", f"{name} is not installed", where="--board", hint=hint)
    root, plugin, counts, trace = (folder / name for name in ("root", "count.so", "counts.txt", "blocks.txt"))
    write_tree(root, target)
    plugin.write_bytes(build_counter(cache))
    command = (program, "-cpu", processor.model, "-L", str(root))
    plain = f"{plugin},out={counts}"
    counting, tracing = ((*command, "-plugin", text) for text in (plain, f"{plain},blocks={trace}"))
    return Emulator(command, counting, tracing, root, counts, trace)
