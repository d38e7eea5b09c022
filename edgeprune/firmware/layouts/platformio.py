"""A PlatformIO library with its archive built already (PlatformIO documentation, library.json)."""

from __future__ import annotations

import json

from edgeprune.firmware.layouts.library import ARCHIVE, HEADER, CLibrary

_SCRIPT = """\
from os.path import realpath

Import("env")
env.Append(LIBPATH=[realpath("lib")], LIBS=["model"])
"""


def platformio_library(library: CLibrary) -> dict[str, bytes]:
    """The files of the folder that goes into a project's lib/."""
    facts = {
        "name": library.identifier,
        "version": library.version,
        "description": f"{library.name}, compiled for {library.target.name}",
        "headers": HEADER,
        "frameworks": "*",
        "platforms": "*",
        "build": {"includeDir": "include", "srcDir": "src", "extraScript": "link.py"},
    }
    return {
        "library.json": json.dumps(facts, indent=2).encode() + b"\n",
        "link.py": _SCRIPT.encode(),
        f"include/{HEADER}": library.sources[HEADER].encode(),
        f"lib/{ARCHIVE}": library.archive,
        "src/model_library.c": f'#include "{HEADER}"\n'.encode(),
        "examples/usage.c": library.usage().encode(),
        "README.txt": library.readme().encode(),
    }
