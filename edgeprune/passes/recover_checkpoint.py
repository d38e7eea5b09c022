"""The state of a training in a file, so that it goes on after a kill as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes

_FORMAT = "edgeprune recovery 1"

State = dict[str, Any]
"""Numbers, texts, tensors, and dicts of these."""


def write_state(path: Path, fingerprint: str, state: State) -> None:
    """Write `state` whole or not at all. Raises EdgepruneError (output-unwritable)."""
    stream = io.BytesIO()
    torch.save({"format": _FORMAT, "fingerprint": fingerprint, "state": state}, stream)
    write_bytes(path, stream.getvalue())


def read_state(path: Path, fingerprint: str) -> State | None:
    """The state that was written under `fingerprint`; None where the file holds that of another training.

    Raises EdgepruneError (checkpoint-unreadable) where it holds something else: that is not to be written over.
    """
    if not zipfile.is_zipfile(path):
        raise _unreadable(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise _unreadable(path) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _unreadable(path)
    return content["state"] if content["fingerprint"] == fingerprint else None


def fingerprint_of(models: Iterable[ir.Model], data: Iterable[Samples], options: str) -> str:
    """A SHA-256 over the nodes and constants of `models`, all rows and labels, `options` and the release of torch."""
    digest = hashlib.sha256(f"{options} {torch.__version__}".encode())
    for model in models:
        for node in model.graph:
            digest.update(ir.to_proto(node).SerializeToString(deterministic=True))
        for name, value in model.graph.initializers.items():
            if value.const_value is not None:
                _add(digest, name, value.const_value.numpy())
    for samples in data:
        for name, array in samples.inputs.items():
            _add(digest, name, array)
        if samples.labels is not None:
            _add(digest, "labels", samples.labels)
    return digest.hexdigest()


def generator_text(generator: np.random.Generator) -> str:
    """The state of `generator`."""
    return json.dumps(generator.bit_generator.state)


def restore_generator(generator: np.random.Generator, text: str) -> None:
    """Put `generator` into the state that `generator_text` gave."""
    generator.bit_generator.state = json.loads(text)


def _add(digest: Any, name: str, array: np.ndarray) -> None:
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


def _unreadable(path: Path) -> EdgepruneError:
    return EdgepruneError(
        "checkpoint-unreadable",
        f"'{path}' is no checkpoint of a recovery training",
        where=str(path),
        hint="name a file that is not there yet, or delete this one",
    )
