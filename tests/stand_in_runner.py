"""A stand-in for edge-run that runs a compiled model for real, by way of this machine's Python."""

from __future__ import annotations

import sys
from pathlib import Path

_SOURCE = """#!{python}
import argparse, json, sys, time
sys.path[:0] = {path!r}
import ctypes
import numpy as np
from edgeprune.deploy.interface import declare, read_ports

parser = argparse.ArgumentParser()
parser.add_argument("verb")
for name in ("library", "threads", "seconds", "inputs", "outputs"):
    parser.add_argument("--" + name)
parser.add_argument("--json", action="store_true")
asked = parser.parse_args()
if asked.verb == "bench" and float(asked.seconds) == 0.125:
    time.sleep(30)
library = declare(ctypes.CDLL(asked.library))
context = ctypes.c_void_p()
code = library.edge_init(ctypes.byref(context), None, 0, int(asked.threads))
if code:
    sys.exit("edge-run: " + library.edge_error(code).decode())
inputs, outputs = read_ports(library, "input"), read_ports(library, "output")

def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))

def take(data, port):
    size = int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize
    return np.frombuffer(data[:size], port.dtype).copy(), data[size:]

if asked.verb == "run":
    data, written, rows = open(asked.inputs, "rb").read(), b"", 0
    while data:
        feeds = []
        for port in inputs:
            feed, data = take(data, port)
            feeds.append(feed)
        results = [np.empty(port.shape, port.dtype) for port in outputs]
        assert library.edge_run(context, pointers(feeds), pointers(results)) == 0
        written += b"".join(result.tobytes() for result in results)
        rows += 1
    open(asked.outputs, "wb").write(written)
    print(json.dumps({{"rows": rows}}))
else:
    steps = library.edge_step_count()
    layers = [{{"name": library.edge_step_name(step).decode(), "time_ns": 1000 * (step + 1)}} for step in range(steps)]
    latency = {{"median": 2000.0, "min": 1500.0, "p90": 2500.0, "runs": 100}}
    print(json.dumps({{"latency_ns": latency, "layers": layers, "peak_rss_bytes": 4096000, "threads": 1}}))
"""


def stand_in_runner() -> bytes:
    """The program's content: a script that this machine can execute."""
    root = Path(__file__).parents[1]
    return _SOURCE.format(python=sys.executable, path=[str(root)]).encode()
