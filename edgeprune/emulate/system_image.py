"""What the emulated system starts from: Debian's kernel, and the files that it unpacks into memory."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from edgeprune.cache import Cache, content_key, open_cache
from edgeprune.emulate.system_archive import Entry, character_device, file, folder, link, write_archive
from edgeprune.emulate.system_packages import DebianPackage, read_package, system_packages

_KIND = "system"
_FOLDERS = ("bin", "dev", "etc", "lib", "lib/modules", "proc", "root", "sys", "tmp", "usr", "usr/bin", "usr/sbin")
_PASSWORDS = b"root:x:0:0:root:/root:/bin/sh\n"
_HOST_KEY_TYPE = b"ssh-ed25519"


@dataclass(frozen=True)
class SystemImage:
    """A kernel, an archive that is the same for every machine, and the digest of what both were made of."""

    kernel: bytes
    archive: bytes
    key: str


@dataclass(frozen=True)
class Keys:
    """Who the machine is and who may log in: an Ed25519 key pair of 32 bytes each, and a line of authorized_keys."""

    host_private: bytes
    host_public: bytes
    authorized: bytes


def read_image(place: Path, cache: Cache | None = None) -> SystemImage:
    """The image made of the packages in the folder `place`, from `cache` where it was made before.

    Raises EdgepruneError: emulator-missing, emulator-files.
    """
    cache = open_cache() if cache is None else cache
    packages, init = system_packages(), _init()
    key = content_key(init, *(part for package in packages for part in (package.sha256, *package.files)))
    made = cache.made(_KIND, key, lambda: _made(packages, init, place))
    (size,) = struct.unpack_from("<Q", made)
    return SystemImage(made[8 : 8 + size], made[8 + size :], key)


def introduction(keys: Keys, disk_kib: int, now: float) -> bytes:
    """The line by which a machine that waits learns who it is: see system_init.sh."""
    host_key = base64.b64encode(_host_key(keys))
    return b"%d %d %s %s\n" % (now, disk_kib, host_key, keys.authorized)


def _made(packages: tuple[DebianPackage, ...], init: bytes, place: Path) -> bytes:
    """The kernel's size, the kernel, the archive."""
    found = {path: content for package in packages for path, content in read_package(package, place).items()}
    kernel = next(path for path in found if path.startswith("boot/"))
    entries = [folder(path) for path in _FOLDERS]
    entries += [character_device("dev/console", 5, 1), link("bin/sh", "busybox")]
    entries += [file("init", init, 0o755), file("etc/passwd", _PASSWORDS), file("etc/shells", b"/bin/sh\n")]
    entries += [_placed(path, content) for path, content in found.items() if path != kernel]
    return struct.pack("<Q", len(found[kernel])) + found[kernel] + write_archive(entries)


def _placed(path: str, content: bytes) -> Entry:
    """A package's file where the system has it: modules in one folder, libraries in another."""
    name = PurePosixPath(path).name
    if name.endswith(".ko"):
        return file(f"lib/modules/{name}", content)
    return file(f"lib/{name}" if ".so" in name else path, content, 0o755)


def _init() -> bytes:
    return (resources.files("edgeprune.emulate") / "system_init.sh").read_bytes()


def _host_key(keys: Keys) -> bytes:
    """The host's key in dropbear's own format: the type, then both halves as one string (its ed25519.c)."""
    return _string(_HOST_KEY_TYPE) + _string(keys.host_private + keys.host_public)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
