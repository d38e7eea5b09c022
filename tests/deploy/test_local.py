import ctypes
import gc
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from tiny_library import build_tiny_library, tiny_inputs

from edgeprune.deploy import local
from edgeprune.deploy.local import LocalRunner
from edgeprune.errors import EdgepruneError
from edgeprune.target import load_target

MANIFEST = SimpleNamespace(target=load_target("x86-64-v2"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so")


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.what
    assert caught.value.hint
    return caught.value


def live(library):
    return ctypes.CDLL(str(library)).live_contexts()


def test_ports_and_outputs(library):
    with LocalRunner(library, MANIFEST) as runner:
        assert [tuple(port) for port in runner.inputs] == [("first", (1, 2, 3), "float32"), ("second", (1, 2), "int64")]
        assert [tuple(port) for port in runner.outputs] == [("total", (1, 2, 3), "float32"), ("flag", (), "bool")]
        for seed in range(5):
            given = tiny_inputs(seed)
            outputs = runner.run(given)
            np.testing.assert_array_equal(outputs["total"], given["first"] + np.float32(given["second"][0, 0]))
            assert outputs["flag"] == (given["second"][0, 1] == 0)


def test_outputs_of_one_run_survive_the_next(library):
    with LocalRunner(library, MANIFEST) as runner:
        first = runner.run(tiny_inputs(1))["total"]
        kept = first.copy()
        runner.run(tiny_inputs(2))
        np.testing.assert_array_equal(first, kept)


def test_strided_and_unaligned_inputs(library):
    given = tiny_inputs(3)
    wide = np.zeros((1, 2, 6), np.float32)
    wide[..., ::2] = given["first"]
    raw = np.zeros(given["first"].nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(given["first"].tobytes(), np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(1, 2, 3)
    with LocalRunner(library, MANIFEST) as runner:
        wanted = runner.run(given)["total"]
        for first in (wide[..., ::2], unaligned):
            np.testing.assert_array_equal(runner.run({**given, "first": first})["total"], wanted)


def test_bound_calls_follow_the_same_arrays(library):
    given = tiny_inputs(4)
    with LocalRunner(library, MANIFEST) as runner:
        bound = runner.bind(given)
        gc.collect()
        bound.call()
        np.testing.assert_array_equal(bound.outputs["total"], runner.run(given)["total"])


def test_steps_and_their_times(library):
    with LocalRunner(library, MANIFEST) as runner:
        assert runner.steps == ["add", "add", "compare"]
        np.testing.assert_array_equal(runner.profile(tiny_inputs()), [1000, 2000, 3000])


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"frist": np.zeros(1)}, "input-unknown", "first"),
        ({"second": None}, "input-missing", "second"),
        ({"first": np.zeros((2, 3), np.float32)}, "input-shape", "[1, 2, 3]"),
        ({"first": np.zeros((1, 3, 2), np.float32)}, "input-shape", "[1, 3, 2]"),
        ({"first": np.zeros((1, 2, 3))}, "input-dtype", "float64"),
        ({"first": np.zeros((1, 2, 3), ">f4")}, "input-dtype", "float32"),
        ({"second": np.zeros((1, 2), np.int32)}, "input-dtype", "int64"),
        ({"first": np.array([[["a", "b", "c"]] * 2])}, "input-dtype", "float32"),
    ],
)
def test_inputs_are_checked_before_the_library_sees_them(library, change, code, named):
    given = {name: array for name, array in (tiny_inputs() | change).items() if array is not None}
    with LocalRunner(library, MANIFEST) as runner:
        for call in (runner.run, runner.bind, runner.profile):
            caught = error(lambda call=call: call(given))
            assert caught.code == code
            assert named in caught.what + caught.hint


def test_contexts_are_freed(library):
    before = live(library)
    runner = LocalRunner(library, MANIFEST)
    second = LocalRunner(library, MANIFEST)
    assert live(library) == before + 2
    bound = runner.bind(tiny_inputs())
    runner.close()
    runner.close()
    assert live(library) == before + 1
    for call in (bound.call, lambda: runner.run(tiny_inputs()), lambda: runner.profile(tiny_inputs())):
        assert error(call).code == "runner-closed"
    del second
    gc.collect()
    assert live(library) == before


def test_a_missing_cpu_feature_is_found_before_loading(tmp_path, monkeypatch):
    target = msgspec.structs.replace(MANIFEST.target, name="x86-64-v9", cpu_flags=("sse2", "avx1024", "amx9"))
    monkeypatch.setattr(local, "host_cpu_flags", lambda: frozenset({"sse2"}))
    caught = error(lambda: LocalRunner(tmp_path / "not-there.so", SimpleNamespace(target=target)))
    assert caught.code == "cpu-missing-features"
    assert "avx1024, amx9" in caught.what
    assert "sse2" not in caught.what
    facts = SimpleNamespace(target=target)
    assert error(lambda: LocalRunner(tmp_path / "x.so", facts, source="model.edge")).where == "model.edge"


def test_codes_of_the_library(library):
    assert error(lambda: LocalRunner(library, MANIFEST, threads=33)).code == "cpu-missing-features"
    assert error(lambda: LocalRunner(library, MANIFEST, threads=44)).code == "threads-refused"
    assert error(lambda: LocalRunner(library, MANIFEST, threads=66)).code == "library-damaged"
    assert error(lambda: LocalRunner(library, MANIFEST, threads=0)).code == "threads-invalid"
    with LocalRunner(library, MANIFEST, threads=55) as runner:
        assert error(lambda: runner.run(tiny_inputs())).code == "run-failed"


def test_what_cannot_be_loaded(tmp_path):
    assert error(lambda: LocalRunner(tmp_path / "nowhere.so", MANIFEST)).code == "library-unloadable"
    (tmp_path / "text.so").write_text("hello")
    assert error(lambda: LocalRunner(tmp_path / "text.so", MANIFEST)).code == "library-unloadable"


def test_several_threads_share_a_runner_or_have_their_own(library):
    failures = []

    def work(runner, seed):
        given = tiny_inputs(seed)
        for _ in range(200):
            total = runner.run(given)["total"]
            if not np.array_equal(total, given["first"] + np.float32(given["second"][0, 0])):
                failures.append(seed)

    shared = LocalRunner(library, MANIFEST)
    own = [LocalRunner(library, MANIFEST) for _ in range(2)]
    threads = [threading.Thread(target=work, args=(runner, seed)) for seed, runner in enumerate([shared, shared, *own])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
