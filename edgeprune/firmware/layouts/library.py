"""The C library of a model: header, sources, archive, and how it is used."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeprune.target import Target

HEADER, ARCHIVE = "edge_model.h", "libmodel.a"
_EPOCH = (1980, 1, 1, 0, 0, 0)

_USAGE = """\
#include <string.h>
#include "edge_model.h"

static uint8_t arena[{arena_bytes}] __attribute__((aligned(16)));

/* One inference: inputs and outputs in the model's order, stored as edge_model.inputs and .outputs say. */
void infer(const void *const inputs[], void *const outputs[]) {{
    for (int32_t i = 0; i < edge_model.input_count; i++)
        memcpy(arena + edge_model.inputs[i].offset, inputs[i], edge_model.inputs[i].bytes);
    edge_run(arena, 0, 0);
    for (int32_t i = 0; i < edge_model.output_count; i++)
        memcpy(outputs[i], arena + edge_model.outputs[i].offset, edge_model.outputs[i].bytes);
}}
"""
_FORGETTING = """
/* Before the first inference, and whenever what came before is to count no more. */
void forget(void) {{
    edge_reset(arena);
}}
"""
_STATES = """\
It remembers from one inference to the next, in the arena: {states}.
Call edge_reset(arena) before the first one.
"""
_README = """\
{name}, compiled for {target} ({triple}, {cpu}).

It needs {arena_bytes} bytes of memory, 16-byte aligned, for one inference, and nothing of a C library but memcpy and
memset. It keeps no state of its own: with an arena each, several threads or interrupts may use it at once.
{states}
Inputs, in order:
{inputs}
Outputs, in order:
{outputs}
What is stored as integers stands for real = (stored - zero) * scale; {header} has scale and zero of each.

Compile {usage} (how it is used) with your project, and link {archive}:
    -mcpu={cpu}{floats} -I. {usage} {archive}
"""


class Port(Protocol):
    """An input or output as it lies in the arena: real = (stored - zero) * scale, or as it is where scale is 0."""

    @property
    def name(self) -> str:
        """The model's name of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """With the batch axis."""

    @property
    def dtype(self) -> str:
        """As numpy names it."""

    @property
    def scale(self) -> float:
        """The step between stored integers."""

    @property
    def zero(self) -> int:
        """What is stored of a real 0."""


@dataclass(frozen=True)
class CLibrary:
    """A model compiled for a microcontroller.

    `archive` is libmodel.a, `sources` its C by file name with edge_model.h among them, `version` three numbers,
    `states` the names of what it remembers.
    """

    name: str
    version: str
    target: Target
    archive: bytes
    sources: Mapping[str, str]
    arena_bytes: int
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    states: Sequence[str] = ()

    @property
    def identifier(self) -> str:
        """The name as C, CMake and file systems take it."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") or "model"

    @property
    def hard_floats(self) -> bool:
        """Whether functions get their floats in registers of the floating-point unit."""
        return self.target.triple.endswith("hf")

    def usage(self) -> str:
        """C that runs one inference."""
        usage = _USAGE + (_FORGETTING if self.states else "")
        return usage.format(arena_bytes=max(self.arena_bytes, 16))

    def readme(self) -> str:
        """What it is and how it is linked, as plain text."""
        return _README.format(
            name=self.name,
            target=self.target.name,
            triple=self.target.triple,
            cpu=self.target.cpu,
            arena_bytes=self.arena_bytes,
            inputs="".join(map(_line, self.inputs)),
            outputs="".join(map(_line, self.outputs)),
            states=_STATES.format(states=", ".join(self.states)) if self.states else "",
            header=HEADER,
            archive=ARCHIVE,
            usage="usage.c",
            floats=" -mfloat-abi=hard" if self.hard_floats else "",
        )


def c_library(library: CLibrary) -> dict[str, bytes]:
    """The files of a plain folder: archive, header, the C it was made from, an example and a README."""
    texts = {**library.sources, "usage.c": library.usage(), "README.txt": library.readme()}
    return {ARCHIVE: library.archive, **{name: text.encode() for name, text in texts.items()}}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """`files` as a ZIP archive; the same files, the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _line(port: Port) -> str:
    grid = f", real = (stored - {port.zero}) * {port.scale:.9g}" if port.scale else ""
    return f"    {port.name}: {port.dtype}, {' x '.join(map(str, port.shape)) or 'one number'}{grid}\n"
