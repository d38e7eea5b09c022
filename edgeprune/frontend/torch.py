"""PyTorch models to the canonical IR, through torch.onnx.export."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import CANONICAL_OPSET, canonicalize
from edgeprune.ir.canonical_stage import quiet, reason

_STATE_KEYS = ("state_dict", "model_state_dict", "model")


Sizes = Mapping[str, int]
"""Sizes of open dimensions by name."""


def load_callable(spec: str, dimensions: Sizes | None = None) -> ir.Model:
    """The model that `module.py:callable` returns: (torch.nn.Module, example inputs as a tuple or dict).

    The module is the user's own code and is run. Raises EdgepruneError (arch-invalid, model-missing, export-failed).
    """
    module, examples = _build(spec)
    return export_module(module, examples, dimensions)


def load_exported(path: str | Path, dimensions: Sizes | None = None) -> ir.Model:
    """The model in a .pt2 file of torch.export.save; `dimensions` gives sizes to open dimensions by name.

    Raises EdgepruneError (model-missing, model-corrupt, export-failed).
    """
    source = _existing(path)
    try:
        with _silenced():
            program = torch.export.load(source)
    except Exception as error:
        raise EdgepruneError(
            "model-corrupt",
            f"'{source.name}' is not a readable torch.export file",
            where=str(source),
            hint=reason(error),
        ) from error
    return _export(program, None, str(source), dimensions)


def load_checkpoint(path: str | Path, arch: str | None, dimensions: Sizes | None = None) -> ir.Model:
    """The network that `arch` (`module.py:callable`) builds, with the weights of a checkpoint file.

    The file is read with weights_only: it holds tensors, it never runs code. Raises EdgepruneError
    (checkpoint-needs-arch, checkpoint-unsafe, checkpoint-mismatch, and those of `load_callable`).
    """
    source = _existing(path)
    if arch is None:
        raise EdgepruneError(
            "checkpoint-needs-arch",
            f"'{source.name}' holds weights without the network they belong to",
            where=str(source),
            hint="give --arch module.py:callable that returns the network and its example inputs",
            exit_code=2,
        )
    state = read_state(source)
    module, examples = _build(arch)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise EdgepruneError(
            "checkpoint-mismatch",
            f"the weights in '{source.name}' do not fit the network of '{arch}'",
            where=str(source),
            hint=" ".join(line.strip() for line in str(error).splitlines()[1:3])[:300],
        ) from error
    return export_module(module, examples, dimensions)


def read_state(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by parameter name, without `module.` prefixes.

    Raises EdgepruneError (checkpoint-unsafe, model-corrupt).
    """
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error) or "Weights only load failed" not in str(error):
            raise _corrupt_checkpoint(source, error) from error
        raise EdgepruneError(
            "checkpoint-unsafe",
            f"'{source.name}' holds more than tensors, and loading it could run code",
            where=str(source),
            hint="save the state_dict alone: torch.save(model.state_dict(), path)",
        ) from error
    except Exception as error:
        raise _corrupt_checkpoint(source, error) from error
    return _state_dict(content, source)


def export_module(
    module: torch.nn.Module, examples: tuple[Any, ...] | Mapping[str, Any], dimensions: Sizes | None = None
) -> ir.Model:
    """The canonical IR of `module` (in inference mode) for inputs of the shapes of `examples`.

    Raises EdgepruneError (export-failed and those of `canonicalize`).
    """
    arguments = {"args": (), "kwargs": dict(examples)} if isinstance(examples, Mapping) else {"args": tuple(examples)}
    return _export(module.eval(), arguments, type(module).__name__, dimensions)


def _export(source: Any, arguments: dict[str, Any] | None, where: str, dimensions: Sizes | None) -> ir.Model:
    try:
        with _silenced(), torch.no_grad():
            program = torch.onnx.export(
                source, **(arguments or {}), dynamo=True, opset_version=CANONICAL_OPSET, verbose=False
            )
    except Exception as error:
        raise EdgepruneError(
            "export-failed", "torch.onnx.export cannot export this model", where=where, hint=reason(error)
        ) from error
    assert program is not None
    return canonicalize(ir.from_proto(program.model_proto), dimensions)


def _build(spec: str) -> tuple[torch.nn.Module, Any]:
    file, _, name = spec.rpartition(":")
    function = _function(_existing(file), name, spec)
    try:
        result = function()
    except Exception as error:
        raise _invalid(spec, f"failed: {type(error).__name__}: {reason(error)}") from error
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], torch.nn.Module):
        raise _invalid(spec, "does not return (torch.nn.Module, example inputs)")
    module, examples = result
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if not isinstance(examples, (tuple, list, Mapping)):
        raise _invalid(spec, "gives example inputs that are neither a tuple nor a dict of tensors")
    return module, examples


def _function(file: Path, name: str, spec: str) -> Callable[[], Any]:
    found = importlib.util.spec_from_file_location(file.stem, file)
    if found is None or found.loader is None:
        raise _invalid(spec, "is not a Python file")
    module = importlib.util.module_from_spec(found)
    with _importable(file.parent.resolve()):
        try:
            found.loader.exec_module(module)
        except Exception as error:
            raise _invalid(spec, f"cannot be imported: {type(error).__name__}: {reason(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise _invalid(spec, f"has no callable '{name}'")
    return function


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the user's module import its neighbours while it is loaded."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Hold back the exporter's warnings and prints."""
    with warnings.catch_warnings(), quiet(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _state_dict(content: Any, source: Path) -> dict[str, torch.Tensor]:
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(v, torch.Tensor) for v in content.values())
    ):
        raise EdgepruneError(
            "model-corrupt",
            f"'{source.name}' holds no state_dict",
            where=str(source),
            hint="save the state_dict alone: torch.save(model.state_dict(), path)",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _existing(path: str | Path) -> Path:
    source = Path(path)
    if not source.is_file():
        raise EdgepruneError("model-missing", f"there is no file '{source}'", where=str(source), hint="check the path")
    return source


def _corrupt_checkpoint(source: Path, error: Exception) -> EdgepruneError:
    return EdgepruneError(
        "model-corrupt", f"'{source.name}' is not a readable PyTorch checkpoint", where=str(source), hint=reason(error)
    )


def _invalid(spec: str, why: str) -> EdgepruneError:
    return EdgepruneError(
        "arch-invalid", f"'{spec}' {why}", where=spec, hint="write module.py:callable; it returns (module, (example,))"
    )
