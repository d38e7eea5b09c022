import msgspec
import pytest
from package_factory import make_manifest

from edgeprune.package.manifest import Manifest, inspection

FIELDS = (
    "target precision backend weights_bytes code_bytes total_bytes ram_bytes expanded_bytes bands states macs "
    "dense_macs nonzero_weights weights accuracy layers provenance"
)


def test_inspection_has_exactly_the_contract_fields():
    facts = inspection(make_manifest())
    assert set(facts) == set(FIELDS.split())
    assert facts["target"] == "x86-64-v2"
    assert facts["total_bytes"] == facts["weights_bytes"] + facts["code_bytes"]
    assert set(facts["accuracy"]) == {"metric", "before", "after", "samples"}
    assert set(facts["layers"][0]) == {"name", "op", "pattern", "density", "macs", "dense_macs", "kernel"}
    assert set(facts["provenance"]) == {"source_sha256", "data_sha256", "seed", "versions"}


def test_no_accuracy_is_said_as_null():
    assert inspection(msgspec.structs.replace(make_manifest(), accuracy=None))["accuracy"] is None


def test_json_round_trip():
    manifest = make_manifest()
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def test_unknown_fields_are_refused():
    plain = msgspec.to_builtins(make_manifest()) | {"colour": "red"}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain, Manifest)
