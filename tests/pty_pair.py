"""The two ends of a pty whose name nobody else is given while a test may still open it."""

from __future__ import annotations

import os
import tty


class PtyPair:
    """`master` is the peer's end, `name` what the tool opens; raw, and open from the first word on."""

    def __init__(self):
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.name = os.ttyname(self._slave)

    def pull(self):
        """Hang up. The name is gone then; its number stays taken, for a tool that looks for it again would find
        a pty of another test."""
        os.close(self.master)

    def __del__(self):
        os.close(self._slave)
