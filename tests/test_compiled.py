import gc

import msgspec
import numpy as np
import pytest
from package_factory import MEMBERS, make_manifest
from tiny_library import build_tiny_library, tiny_inputs

from edgeprune.compiled import Package
from edgeprune.errors import EdgepruneError
from edgeprune.package.format import write_package
from edgeprune.package.manifest import Port


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    library = build_tiny_library(folder / "model.so")
    ports = {
        "inputs": (Port("first", (1, 2, 3), "float32"), Port("second", (1, 2), "int64")),
        "outputs": (Port("total", (1, 2, 3), "float32"), Port("flag", (), "bool")),
    }
    manifest = msgspec.structs.replace(make_manifest(), **ports)
    write_package(folder / "tiny.edge", manifest, MEMBERS | {"model.so": library.read_bytes()})
    return folder / "tiny.edge"


def rows(count):
    each = [tiny_inputs(seed) for seed in range(count)]
    return {name: np.concatenate([row[name] for row in each]) for name in each[0]}


@pytest.mark.parametrize("count", [1, 5])
def test_one_inference_a_row(path, count):
    given = rows(count)
    with Package.open(path) as package:
        outputs = package.run(given)
    assert outputs["total"].shape == (count, 2, 3)
    np.testing.assert_array_equal(outputs["total"], given["first"] + given["second"][:, :1, None].astype(np.float32))
    np.testing.assert_array_equal(outputs["flag"], given["second"][:, 1] == 0)


def test_real_values_are_cast_where_they_fit(path):
    given = rows(2)
    with Package.open(path) as package:
        as_doubles = package.run({name: array.astype(np.float64) for name, array in given.items()})
        np.testing.assert_array_equal(as_doubles["total"], package.run(given)["total"])
        with pytest.raises(EdgepruneError) as caught:
            package.run({**given, "second": given["second"] + 0.5})
    assert caught.value.code == "data-dtype"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"third": np.zeros(2)}, "input-unknown"),
        ({"second": None}, "input-missing"),
        ({"first": np.zeros((2, 3, 2), np.float32)}, "data-shape"),
        ({"first": np.zeros((3, 2, 3), np.float32)}, "data-shape"),
    ],
)
def test_rows_that_do_not_fit(path, change, code):
    given = {name: array for name, array in (rows(2) | change).items() if array is not None}
    with Package.open(path) as package, pytest.raises(EdgepruneError) as caught:
        package.run(given)
    assert caught.value.code == code
    assert caught.value.where
    assert caught.value.hint


def test_one_array_where_the_model_has_two_inputs(path):
    with Package.open(path) as package, pytest.raises(EdgepruneError) as caught:
        package.run(np.zeros((1, 2, 3), np.float32))
    assert caught.value.code == "input-missing"


def test_facts_and_members(path):
    with Package.open(path) as package:
        assert package.inspection["target"] == "x86-64-v2"
        assert package.member("model.c") == MEMBERS["model.c"]
        with pytest.raises(EdgepruneError) as caught:
            package.member("model.cc")
    assert "model.c" in caught.value.hint


def test_what_was_unpacked_goes_away(path):
    package = Package.open(path)
    library = package.library()
    assert library.is_file()
    assert library.parent.stat().st_mode & 0o077 == 0
    package.close()
    assert not library.parent.exists()
    library = package.library()
    del package
    gc.collect()
    assert not library.parent.exists()


def test_bench(path):
    with Package.open(path) as package:
        report = package.bench(seconds=0.2)
    assert report["latency_ms"]["runs"] > 0
    assert [layer["name"] for layer in report["layers"]] == ["add", "compare"]
