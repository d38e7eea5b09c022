"""A plan of two hand-written kernels, y = (exp(x) + w) * v, for tests of the runtime."""

from __future__ import annotations

import numpy as np
from tvm.script import tirx as T

from edgeprune.lowering.plan import Buffer, Call, Constant, Layer, Plan, Port


@T.prim_func(s_tir=True)
def exp_add(
    x: T.handle("float32"), w: T.handle("float32"), y: T.handle("float32"), begin: T.int32, end: T.int32
) -> None:
    X = T.decl_buffer((1,), "float32", data=x)
    W = T.decl_buffer((1,), "float32", data=w)
    Y = T.decl_buffer((1,), "float32", data=y)
    for u in T.serial(end - begin):
        Y[u + begin] = T.exp(X[u + begin]) + W[u + begin]


@T.prim_func(s_tir=True)
def multiply(
    x: T.handle("float32"), w: T.handle("float32"), y: T.handle("float32"), begin: T.int32, end: T.int32
) -> None:
    X = T.decl_buffer((1,), "float32", data=x)
    W = T.decl_buffer((1,), "float32", data=w)
    Y = T.decl_buffer((1,), "float32", data=y)
    for u in T.serial(end - begin):
        Y[u + begin] = X[u + begin] * W[u + begin]


def small_plan(count: int = 37) -> Plan:
    w = np.arange(count, dtype=np.float32)
    return Plan(
        inputs=(Port("x", (count,), "float32", "given"),),
        outputs=(Port("y", (count, 1), "float32", "made"),),
        buffers=(Buffer("between", 4 * count),),
        constants=(Constant("w", w), Constant("v", w / 8 - 1)),
        steps=(
            Call("exp_add", ("given", "w", "between"), ("between",), count, Layer("first", "Add", "k")),
            Call("multiply", ("between", "v", "made"), ("made",), count, Layer("second", "Mul", "k")),
        ),
        functions={"exp_add": exp_add, "multiply": multiply},
    )


def expected(x: np.ndarray) -> np.ndarray:
    w = np.arange(x.size, dtype=np.float64)
    return ((np.exp(x.astype(np.float64)) + w) * (w / 8 - 1))[:, None]
