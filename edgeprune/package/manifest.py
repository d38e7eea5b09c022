"""What a package says of itself: the manifest, and the facts `inspect` shows."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeprune.target import Target

SCHEMA = 2


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a microcontroller holds a port, `offset` bytes into the arena: real = (stored - zero) * scale.

    A `scale` of 0 means numbers as they are, of `dtype`.
    """

    dtype: str
    scale: float
    zero: int
    offset: int


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output as the user sees it: dense, row-major, with its batch axis; `dtype` as numpy names it.

    `stored` is set in packages for microcontrollers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: Stored | None = None


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the package keeps from one inference to the next: its input `name` is its output `result` in the next.

    It begins at zero. Its place in the scratch memory is set in packages for microcontrollers.
    """

    name: str
    result: str
    shape: tuple[int, ...]
    dtype: str
    stored: Stored | None = None


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`metric` of the model as it came and as it is in the package, on the same `samples` test rows."""

    metric: str
    before: float
    after: float
    samples: int


class LayerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer: its node, op, pattern, share of weights kept, multiply-accumulates with and without zeros, kernel."""

    name: str
    op: str
    pattern: str
    density: float
    macs: int
    dense_macs: int
    kernel: str


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a package was made from: sha256 of model and data, the seed, and versions of what made it."""

    source_sha256: str
    data_sha256: str | None
    seed: int
    versions: dict[str, str]


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is computed in `count` bands of rows: all from the value `source` to the layer `result`."""

    source: str
    result: str
    count: int
    extra_macs: int


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts computed a few rows at a time, the scratch memory without that, and the work that is done twice for it."""

    whole_ram_bytes: int
    extra_macs: int
    segments: tuple[Segment, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a package says of itself. Sizes in bytes; `members` is filled in when the package is written.

    `weights_bytes` is what the packed weights take as they are stored, `code_bytes` the rest of the library,
    `ram_bytes` the scratch memory of one context with one thread, `expanded_bytes` what all contexts share: the
    memory that coded weights take once the model is started. `weights` counts the model's weights, `nonzero_weights`
    those kept.
    """

    name: str
    target: Target
    created_by: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    precision: str
    backend: str
    layers: tuple[LayerFacts, ...]
    weights_bytes: int
    code_bytes: int
    ram_bytes: int
    macs: int
    dense_macs: int
    nonzero_weights: int
    weights: int
    provenance: Provenance
    accuracy: Accuracy | None = None
    preprocess: dict[str, Any] | None = None
    members: dict[str, str] = {}
    expanded_bytes: int = 0
    bands: Bands | None = None
    states: tuple[State, ...] = ()
    schema: int = SCHEMA

    @property
    def library(self) -> str:
        """The member that holds the compiled model: a shared library, or on a microcontroller a static one."""
        return "libmodel.a" if self.target.bare else "model.so"

    @property
    def total_bytes(self) -> int:
        """Weights and code together: what the device stores."""
        return self.weights_bytes + self.code_bytes


def inspection(manifest: Manifest) -> dict[str, Any]:
    """The JSON fields of `edgeprune inspect PACKAGE`."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    fields = (
        *("precision", "backend", "weights_bytes", "code_bytes"),
        *("ram_bytes", "expanded_bytes", "macs", "dense_macs", "nonzero_weights", "weights"),
        *("states", "bands", "accuracy", "layers", "provenance"),
    )
    facts = {name: plain[name] for name in fields}
    return {"target": manifest.target.name, **facts, "total_bytes": manifest.total_bytes}
