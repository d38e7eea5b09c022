"""An Arduino library with its archive built already (Arduino library specification, section 1.5, "precompiled")."""

from __future__ import annotations

from edgeprune.firmware.layouts.library import HEADER, CLibrary

_PROPERTIES = """\
name={identifier}
version={version}
author=edgeprune
maintainer=edgeprune
sentence={name}, compiled for {target}.
paragraph=One inference takes {arena_bytes} bytes of memory.
category=Data Processing
url=
architectures=*
precompiled=full
ldflags=-l{identifier}
includes={header}
"""
_SKETCH = """\
#include <{header}>

static uint8_t arena[{arena_bytes}] __attribute__((aligned(16)));

void setup() {{{reset}}}

void loop() {{
    /* Inputs go to arena + edge_model.inputs[i].offset; outputs are at arena + edge_model.outputs[i].offset. */
    edge_run(arena, 0, 0);
}}
"""
_UNITS = {"cortex-m4": "fpv4-sp-d16", "cortex-m7": "fpv5-sp-d16", "cortex-m33": "fpv5-sp-d16"}


def arduino_library(library: CLibrary) -> dict[str, bytes]:
    """The files of the library's folder. The archive is found by cores whose compiler has the same floats."""
    facts = {
        "identifier": library.identifier,
        "version": library.version,
        "name": library.name,
        "target": library.target.name,
        "arena_bytes": max(library.arena_bytes, 16),
        "header": HEADER,
        "reset": " edge_reset(arena); " if library.states else "",
    }
    unit = f"/{_UNITS.get(library.target.cpu, 'auto')}-hard" if library.hard_floats else ""
    return {
        "library.properties": _PROPERTIES.format(**facts).encode(),
        f"src/{HEADER}": library.sources[HEADER].encode(),
        f"src/{library.target.cpu}{unit}/lib{library.identifier}.a": library.archive,
        f"examples/{library.identifier}/{library.identifier}.ino": _SKETCH.format(**facts).encode(),
        "README.txt": library.readme().encode(),
    }
