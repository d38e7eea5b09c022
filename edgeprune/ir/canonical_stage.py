"""Runs other packages' graph passes: their failures become one clear error, their log lines stay quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edgeprune.errors import EdgepruneError

_LOGGERS = ("onnxscript", "onnx_ir", "torch.onnx")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Turn any failure inside into EdgepruneError (model-corrupt) that says during which step `name` it came."""
    try:
        with quiet():
            yield
    except EdgepruneError:
        raise
    except Exception as error:
        raise EdgepruneError(
            "model-corrupt", f"the model is not consistent: {name} failed", where=name, hint=reason(error)
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the warnings that graph passes log and numpy gives."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The innermost cause of `error` on one line of at most 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip().removeprefix("==> ") for line in str(error).splitlines()]
    return " ".join(line for line in lines if line)[:300] or type(error).__name__
