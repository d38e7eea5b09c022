"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from os import PathLike
from pathlib import Path

from edgeprune.errors import EdgepruneError


def write_bytes(path: str | PathLike[str], content: bytes) -> None:
    """Write `content` to a new file beside `path`, then rename it to `path`.

    Raises EdgepruneError (output-unwritable); nothing is left behind then, and a file that was there stays as it was.
    """
    target, temporary = Path(path), None
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EEXIST, "it is there and no ordinary file")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise EdgepruneError(
            "output-unwritable",
            f"cannot write '{target}': {error.strerror or error}",
            where=str(target),
            hint="check the folder, its permissions and the free space",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
