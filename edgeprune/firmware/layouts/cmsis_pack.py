"""A CMSIS-Pack: a ZIP archive with a description in XML (Open-CMSIS-Pack specification 1.7)."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from edgeprune.firmware.layouts.library import ARCHIVE, HEADER, CLibrary

_VENDOR = "edgeprune"
_CORES = {
    "cortex-m0plus": "Cortex-M0+",
    "cortex-m3": "Cortex-M3",
    "cortex-m4": "Cortex-M4",
    "cortex-m7": "Cortex-M7",
    "cortex-m33": "Cortex-M33",
    "cortex-m55": "Cortex-M55",
}


def cmsis_pack(library: CLibrary) -> dict[str, bytes]:
    """The files of the pack; `pack_name` is what the archive is called."""
    return {
        f"{_VENDOR}.{library.identifier}.pdsc": _description(library),
        f"include/{HEADER}": library.sources[HEADER].encode(),
        f"lib/{ARCHIVE}": library.archive,
        "template/usage.c": library.usage().encode(),
        "README.txt": library.readme().encode(),
    }


def pack_name(library: CLibrary) -> str:
    """The file name that installers of packs expect."""
    return f"{_VENDOR}.{library.identifier}.{library.version}.pack"


def _description(library: CLibrary) -> bytes:
    package = Element("package", {"schemaVersion": "1.7.7"})
    for tag, text in (
        ("vendor", _VENDOR),
        ("name", library.identifier),
        ("description", f"{library.name}, compiled for {library.target.name}"),
        ("url", ""),
    ):
        SubElement(package, tag).text = text
    release = SubElement(SubElement(package, "releases"), "release", {"version": library.version})
    release.text = "As compiled."
    condition = SubElement(SubElement(package, "conditions"), "condition", {"id": "core"})
    core = {"Dcore": _CORES[library.target.cpu]} if library.target.cpu in _CORES else {}
    SubElement(condition, "require", core)
    component = SubElement(
        SubElement(package, "components"),
        "component",
        {"Cclass": "Machine Learning", "Cgroup": "Model", "Csub": library.identifier, "Cversion": library.version}
        | {"condition": "core"},
    )
    SubElement(component, "description").text = f"{library.name}: one inference in {library.arena_bytes} bytes"
    files = SubElement(component, "files")
    SubElement(files, "file", {"category": "doc", "name": "README.txt"})
    SubElement(files, "file", {"category": "header", "name": f"include/{HEADER}"})
    SubElement(files, "file", {"category": "library", "name": f"lib/{ARCHIVE}"})
    usage = {"category": "sourceC", "name": "template/usage.c", "attr": "template", "select": "One inference"}
    SubElement(files, "file", usage)
    ElementTree.indent(package)
    return ElementTree.tostring(package, "utf-8", xml_declaration=True) + b"\n"
