from __future__ import annotations

import msgspec
import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.sweep.grid import Job
from edgeprune.sweep.identity import job_keys, package_name


@pytest.fixture
def job(tmp_path) -> Job:
    (tmp_path / "a.onnx").write_bytes(b"weights")
    return Job(str(tmp_path / "a.onnx"), "host", options={"seed": 0})


def key(job: Job) -> str:
    return next(iter(job_keys([job])))


def test_a_key_is_the_same_in_another_run(job):
    assert key(job) == key(msgspec.structs.replace(job, options={"seed": 0}))
    assert len(key(job)) == 12


def test_a_key_changes_with_everything_that_decides_the_result(job, tmp_path):
    others = [{"target": "x86-64-v3"}, {"options": {"seed": 1}}, {"board": ""}, {"dimensions": {"n": 2}}]
    keys = [key(job), *(key(msgspec.structs.replace(job, **other)) for other in others)]
    (tmp_path / "a.onnx").write_bytes(b"other weights")
    assert len({*keys, key(job)}) == 6


def test_a_key_changes_with_the_data(job, tmp_path):
    (tmp_path / "rows.npz").write_bytes(b"rows")
    card = tmp_path / "card.toml"
    card.write_text('metric = "fidelity"\n[test]\nfile = "rows.npz"\n')
    with_data = msgspec.structs.replace(job, data=str(card))
    first = key(with_data)
    (tmp_path / "rows.npz").write_bytes(b"more rows")
    assert len({key(job), first, key(with_data)}) == 3


def test_a_key_does_not_change_with_the_folder(job, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.onnx").write_bytes(b"weights")
    assert key(msgspec.structs.replace(job, model=str(tmp_path / "b" / "a.onnx"))) == key(job)


def test_a_callable_is_known_by_its_file(tmp_path):
    (tmp_path / "net.py").write_text("def build(): ...\n")
    first, second = (Job(f"{tmp_path}/net.py:{name}", "host") for name in ("build", "other"))
    assert key(first) != key(second)


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(EdgepruneError) as caught:
        job_keys([Job(str(tmp_path / "none.onnx"), "host")])
    assert (caught.value.code, caught.value.what) == ("file-missing", f"there is no file {tmp_path}/none.onnx")


def test_a_package_has_a_plain_file_name():
    assert package_name(Job("/x/my net.v2.onnx", "host"), "0123") == "my_net_v2-host-0123.edge"
    assert package_name(Job("/x/net.py:build", "x86-64-v3"), "0123") == "net-x86-64-v3-0123.edge"
