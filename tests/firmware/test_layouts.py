from __future__ import annotations

import ctypes
import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_bare import ARENA_BYTES, SOURCE, core, header, tiny_firmware, tiny_inputs, tiny_library, tiny_outputs

from edgeprune.firmware.layouts.arduino import arduino_library
from edgeprune.firmware.layouts.cmsis_pack import cmsis_pack, pack_name
from edgeprune.firmware.layouts.library import CLibrary, c_library, zipped
from edgeprune.firmware.layouts.platformio import platformio_library
from edgeprune.firmware.layouts.zephyr import zephyr_module
from edgeprune.toolchain import baseline, compile_c

LAYOUTS = (c_library, cmsis_pack, zephyr_module, platformio_library, arduino_library)


def library(name: str = "cortex-m4") -> CLibrary:
    model = tiny_firmware().model
    sources = {"edge_model.h": header(), "model.c": SOURCE}
    return CLibrary(
        "Tiny (KWS) 2", "1.2.3", core(name), tiny_library(), sources, ARENA_BYTES, model.inputs, model.outputs
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_archive_header_and_use(layout):
    files = layout(library())
    assert sum(content == tiny_library() for content in files.values()) == 1
    assert any(name.endswith("edge_model.h") for name in files)
    assert any(b"edge_run(arena, 0, 0)" in content for content in files.values())
    assert b"first: int8, 1 x 8" in files["README.txt"] and b"-mfloat-abi=hard" in files["README.txt"]
    with zipfile.ZipFile(io.BytesIO(zipped(files))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert zipped(files) == zipped(layout(library()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_remembered_is_reset_by_the_example(layout):
    plain, files = layout(library()), layout(replace(library(), states=["h", "c"]))
    resets = [name for name, content in files.items() if b"edge_reset(arena);" in content]
    assert len(resets) == 1 and resets[0].endswith((".c", ".ino"))
    assert not any(b"edge_reset(arena);" in content for content in plain.values())
    told = (
        "It remembers from one inference to the next, in the arena: h, c.\nCall edge_reset(arena) before the first one."
    )
    assert told in files["README.txt"].decode() and "It remembers" not in plain["README.txt"].decode()


def test_the_example_runs_one_inference(tmp_path):
    """Compiled for this machine with the model's C: what it computes is the model's."""
    for name, content in c_library(library()).items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wno-strict-aliasing", "-fno-sanitize=all", "-o", "tiny.so", "usage.c", "model.c"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    infer = ctypes.CDLL(str(tmp_path / "tiny.so")).infer
    inputs, model = tiny_inputs(1), tiny_firmware().model
    given = [tensor.stored(inputs[tensor.name][0]) for tensor in model.inputs]
    taken = [ctypes.create_string_buffer(tensor.size) for tensor in model.outputs]
    infer((ctypes.c_char_p * 2)(*given), (ctypes.c_void_p * 2)(*(ctypes.addressof(buffer) for buffer in taken)))
    for tensor, buffer in zip(model.outputs, taken, strict=True):
        np.testing.assert_array_equal(tensor.real(buffer.raw), tiny_outputs(inputs)[tensor.name][0])


def test_the_example_is_short_and_compiles_for_the_core(tmp_path):
    for name, content in c_library(library()).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "string.h").write_text("#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n")
    flags = [baseline(core("cortex-m4")), "-Os", "-I.", "-Wall", "-Wextra", "-Werror", "-ffreestanding"]
    compile_c(core("cortex-m4"), [*flags, "-c", "usage.c", "-o", "usage.o"], tmp_path)
    lines = [line for line in library().usage().splitlines() if line.strip() and not line.startswith(("/*", "#"))]
    assert len(lines) <= 10


def test_the_pack_describes_its_files():
    files = cmsis_pack(library())
    package = ElementTree.fromstring(files["edgeprune.tiny_kws_2.pdsc"])
    named = [entry.attrib["name"] for entry in package.iter("file")]
    assert set(named) <= set(files) and "lib/libmodel.a" in named
    assert [entry.attrib for entry in package.iter("require")] == [{"Dcore": "Cortex-M4"}]
    (component,) = package.iter("component")
    conditions = [entry.attrib["id"] for entry in package.iter("condition")]
    assert component.attrib["condition"] in conditions
    assert [child.tag for child in package][:4] == ["vendor", "name", "description", "url"]
    assert pack_name(library()) == "edgeprune.tiny_kws_2.1.2.3.pack"


@pytest.mark.parametrize(
    ("name", "depends"),
    [
        ("cortex-m4", "CPU_CORTEX_M4 && FP_HARDABI"),
        ("cortex-m0plus", "CPU_CORTEX_M0PLUS"),
        ("cortex-m55", "CPU_CORTEX_M55 && FP_HARDABI"),
    ],
)
def test_the_zephyr_module_names_its_core(name, depends):
    files = {file: content.decode(errors="replace") for file, content in zephyr_module(library(name)).items()}
    (option,) = re.findall(r"^config (\w+)$", files["Kconfig"], re.MULTILINE)
    assert f"CONFIG_{option}" in files["CMakeLists.txt"] and f"    depends on {depends}\n" in files["Kconfig"]
    (place,) = re.findall(r"CMAKE_CURRENT_LIST_DIR\}/(\S+)\)", files["CMakeLists.txt"])
    assert place in files and "name: tiny_kws_2" in files["zephyr/module.yml"]


def test_platformio_links_the_archive():
    files = platformio_library(library())
    facts = json.loads(files["library.json"])
    assert (facts["name"], facts["version"]) == ("tiny_kws_2", "1.2.3")
    assert facts["build"]["extraScript"] in files
    assert any(name.startswith(facts["build"]["srcDir"]) for name in files)
    told = {}
    script = files["link.py"].decode()
    exec(script, {"Import": lambda name: None, "env": type("env", (), {"Append": staticmethod(told.update)})})
    assert told["LIBS"] == ["model"] and told["LIBPATH"][0].endswith("/lib")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cortex-m4", "src/cortex-m4/fpv4-sp-d16-hard/libtiny_kws_2.a"),
        ("cortex-m0plus", "src/cortex-m0plus/libtiny_kws_2.a"),
    ],
)
def test_arduino_finds_the_archive_by_its_core(name, place):
    files = arduino_library(library(name))
    properties = dict(line.split("=", 1) for line in files["library.properties"].decode().splitlines())
    assert place in files and properties["ldflags"] == "-ltiny_kws_2" and properties["precompiled"] == "full"
    assert properties["version"] == "1.2.3" and f"src/{properties['includes']}" in files
