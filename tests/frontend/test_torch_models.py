from __future__ import annotations

from pathlib import Path

import cifar_networks
import numpy as np
import pytest
import torch

from edgeprune.data import load_card
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.metric import score

NETWORKS = cifar_networks.__file__


def failure(spec: str | Path, arch: str | None = None) -> str:
    with pytest.raises(EdgepruneError) as caught:
        load(spec, arch)
    return str(caught.value)


def same_as_torch(model, module: torch.nn.Module) -> None:
    random = np.random.default_rng(0)
    feed = {spec.name: random.standard_normal(spec.shape).astype(np.float32) for spec in input_specs(model)}
    with torch.no_grad():
        expected = module.eval()(**{name: torch.from_numpy(array) for name, array in feed.items()}).numpy()
    (found,) = Session(model).run(feed).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_callable_of_the_user():
    model = load(f"{NETWORKS}:small")
    assert [spec.name for spec in input_specs(model)] == ["image", "offset"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph}
    same_as_torch(model, cifar_networks.small()[0])


def test_an_exported_program(tmp_path: Path):
    module, examples = cifar_networks.small()
    torch.export.save(torch.export.export(module.eval(), (), examples), tmp_path / "small.pt2")
    same_as_torch(load(tmp_path / "small.pt2"), module)


def test_a_checkpoint_with_prefixes_and_nesting(tmp_path: Path):
    torch.manual_seed(7)
    module = cifar_networks.Small()
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": state, "best": 0.5}, tmp_path / "small.pth")
    same_as_torch(load(tmp_path / "small.pth", f"{NETWORKS}:small"), module)


def test_resnet32_reaches_its_accuracy(data_dir: Path):
    model = load(data_dir / "models/cifar_resnet/resnet32-d509ac18.th", f"{NETWORKS}:resnet32")
    specs = input_specs(model)
    samples = load_card(data_dir / "cards/cifar10.toml").load("test", specs)
    (outputs,) = Session(model).run_rows(samples).values()
    assert score("top1", outputs, samples.labels) == pytest.approx(0.932)


def test_a_checkpoint_without_its_network(tmp_path: Path):
    torch.save({}, tmp_path / "weights.pt")
    assert failure(tmp_path / "weights.pt") == (
        "'weights.pt' holds weights without the network they belong to [checkpoint-needs-arch]\n"
        f"  where: {tmp_path / 'weights.pt'}\n"
        "  hint:  give --arch module.py:callable that returns the network and its example inputs"
    )


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Trap()}, "trap.pth")
    assert failure("trap.pth", f"{NETWORKS}:small") == (
        "'trap.pth' holds more than tensors, and loading it could run code [checkpoint-unsafe]\n"
        "  where: trap.pth\n"
        "  hint:  save the state_dict alone: torch.save(model.state_dict(), path)"
    )
    assert not Path("sprung").exists()


def test_a_checkpoint_of_another_network(tmp_path: Path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    text = failure(tmp_path / "other.pt", f"{NETWORKS}:small")
    assert text.startswith(
        f"the weights in 'other.pt' do not fit the network of '{NETWORKS}:small' [checkpoint-mismatch]"
    )
    assert "Missing key(s)" in text


@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
@pytest.mark.parametrize("content", [b"", b"garbage that is neither a zip nor a pickle", b"PK\x03\x04broken"])
def test_a_corrupt_file(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    kind = "torch.export file" if suffix == ".pt2" else "PyTorch checkpoint"
    assert failure(path, f"{NETWORKS}:small").startswith(
        f"'model{suffix}' is not a readable {kind} [model-corrupt]\n  where: {path}"
    )


def test_a_checkpoint_that_holds_no_tensors(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "model.pt")
    assert failure(tmp_path / "model.pt", f"{NETWORKS}:small").startswith(
        "'model.pt' holds no state_dict [model-corrupt]"
    )


def test_a_function_that_is_not_there():
    assert failure(f"{NETWORKS}:missing") == (
        f"'{NETWORKS}:missing' has no callable 'missing' [arch-invalid]\n"
        f"  where: {NETWORKS}:missing\n"
        "  hint:  write module.py:callable; it returns (module, (example,))"
    )


@pytest.mark.parametrize(
    ("name", "why"), [("nothing", "does not return (torch.nn.Module, example inputs)"), ("NUMBER", "has no callable")]
)
def test_a_function_that_gives_no_module(name: str, why: str):
    assert f"'{NETWORKS}:{name}' {why}" in failure(f"{NETWORKS}:{name}")


def test_a_module_that_fails(tmp_path: Path):
    (tmp_path / "broken.py").write_text("import does_not_exist\n\ndef net():\n    return 1\n")
    assert "cannot be imported: ModuleNotFoundError: No module named 'does_not_exist'" in failure(
        f"{tmp_path / 'broken.py'}:net"
    )
    (tmp_path / "late.py").write_text("def net():\n    return 1 / 0\n")
    assert "failed: ZeroDivisionError: division by zero" in failure(f"{tmp_path / 'late.py'}:net")
