"""Windows of recorded speech for silero VAD, which carries a state from one to the next."""

from __future__ import annotations

import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

WINDOW, CONTEXT, RATE = 512, 64, 16000

Runner = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def read_speech(path: Path) -> np.ndarray:
    """The samples of a 16 kHz file of two channels and 16 bits, their mean, -1 to 1."""
    with wave.open(str(path)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 2, 2)
        channels = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, 2)
    return (channels.mean(axis=1) / 32768).astype(np.float32)


def windows_of(sound: np.ndarray) -> np.ndarray:
    """Windows of 512 samples, each with the 64 before it, (count, 1, 576)."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    starts = range(0, len(sound) - WINDOW + 1, WINDOW)
    return np.stack([padded[start : start + CONTEXT + WINDOW] for start in starts])[:, None]


def listen(run: Runner, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chance of speech in each window, and the state that each window was heard with."""
    state, chances, states = np.zeros((2, 1, 128), np.float32), [], []
    for window in windows:
        states.append(state)
        results = run({"input": window, "state": state, "sr": np.array(RATE)})
        chances.append(float(results["output"].item()))
        state = results["stateN"]
    return np.array(chances), np.stack(states)
