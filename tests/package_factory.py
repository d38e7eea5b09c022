"""A small package for tests."""

from edgeprune.package.manifest import Accuracy, LayerFacts, Manifest, Port, Provenance
from edgeprune.target import load_target

MEMBERS = {
    "model.so": bytes(range(256)) * 3,
    "model.c": b"int main(void) { return 0; }\n" * 4,
    "runtime/edge.h": b"#define EDGE_H\n",
    "model.onnx": b"",
}


def make_manifest() -> Manifest:
    return Manifest(
        name="tiny",
        target=load_target("x86-64-v2"),
        created_by="edgeprune 0",
        inputs=(Port("x", (1, 2), "float32"),),
        outputs=(Port("y", (1, 2), "float32"),),
        precision="fp32",
        backend="tvm",
        layers=(LayerFacts("conv", "Conv", "1x16", 0.25, 100, 400, "conv2d"),),
        weights_bytes=1000,
        code_bytes=234,
        ram_bytes=64,
        macs=100,
        dense_macs=400,
        nonzero_weights=250,
        weights=1000,
        provenance=Provenance("0" * 64, None, 7, {"edgeprune": "0"}),
        accuracy=Accuracy("top1", 0.9, 0.89, 500),
        preprocess={"scale": 0.5, "mean": [1.0, 2.0]},
    )
