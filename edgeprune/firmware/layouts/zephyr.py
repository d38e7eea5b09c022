"""A Zephyr module: found by west or EXTRA_ZEPHYR_MODULES (Zephyr documentation, Modules)."""

from __future__ import annotations

from edgeprune.firmware.layouts.library import ARCHIVE, HEADER, CLibrary

_MODULE = """\
name: {identifier}
build:
  cmake: .
  kconfig: Kconfig
"""
_CMAKE = """\
if(CONFIG_EDGE_MODEL_{upper})
  zephyr_include_directories(include)
  zephyr_library_import({identifier} ${{CMAKE_CURRENT_LIST_DIR}}/lib/{archive})
endif()
"""
_KCONFIG = """\
config EDGE_MODEL_{upper}
    bool "The model {identifier}"
    default y
    depends on {core}{floats}
    help
      One inference takes {arena_bytes} bytes of memory; usage.c shows how it is run.
"""
_CORES = {"cortex-m0plus": "CPU_CORTEX_M0PLUS", "riscv32imc": "RISCV"}


def zephyr_module(library: CLibrary) -> dict[str, bytes]:
    """The files of the module's folder."""
    core = _CORES.get(library.target.name, f"CPU_{library.target.name.upper().replace('-', '_')}")
    facts = {
        "identifier": library.identifier,
        "upper": library.identifier.upper(),
        "archive": ARCHIVE,
        "core": core,
        "floats": " && FP_HARDABI" if library.hard_floats else "",
        "arena_bytes": library.arena_bytes,
    }
    return {
        "zephyr/module.yml": _MODULE.format(**facts).encode(),
        "CMakeLists.txt": _CMAKE.format(**facts).encode(),
        "Kconfig": _KCONFIG.format(**facts).encode(),
        f"include/{HEADER}": library.sources[HEADER].encode(),
        f"lib/{ARCHIVE}": library.archive,
        "usage.c": library.usage().encode(),
        "README.txt": library.readme().encode(),
    }
