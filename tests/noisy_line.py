"""A serial line between two ptys that loses bytes, adds some, goes dead or is cut, from a seed."""

from __future__ import annotations

import os
import random
import select
import threading

from pty_pair import PtyPair


class NoisyLine(threading.Thread):
    """`host` and `board` are the names of its ends; `loses` and `adds` are chances for each byte, either way."""

    def __init__(self, seed=0, loses=0.0, adds=0.0):
        super().__init__(daemon=True)
        self.draw, self.loses, self.adds = random.Random(seed), loses, adds
        self.dead, self.stop, self.carried = False, False, 0
        self.ends = PtyPair(), PtyPair()
        self.host, self.board = (end.name for end in self.ends)
        self.start()

    def run(self):
        a, b = (end.master for end in self.ends)
        while not self.stop:
            for ready in select.select([a, b], [], [], 0.02)[0]:
                data = self._spoilt(os.read(ready, 4096))
                self.carried += len(data)
                if data and not self.dead:
                    os.write(b if ready == a else a, data)
        for end in self.ends:
            end.pull()

    def _spoilt(self, data):
        kept = []
        for byte in data:
            if self.draw.random() >= self.loses:
                kept.append(byte)
            if self.draw.random() < self.adds:
                kept.append(self.draw.randrange(256))
        return bytes(kept)

    def babble(self, data):
        """Say `data` to the host."""
        os.write(self.ends[0].master, data)

    def cut(self):
        self.stop = True
        self.join(10)
