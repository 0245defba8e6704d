"""What a meter must not forget: small files, replaced atomically, each with a checksum.

littlefs and POSIX both rename over an existing file in one step, so that a power cut leaves the old
or the new content, never half of each.
"""

import os
from hashlib import sha256

from wattveil_meter.fields import pack, uint

# What provisioning writes, once: no start counted, no registration, no period begun.
FRESH = {"boot.bin": pack(uint(0), uint(0)), "period.bin": pack(uint(0), uint(0), b"", b"")}


class Damaged(Exception):
    """A file that provisioning wrote is gone or fails its checksum: provision the meter again.

    Without it counters would start anew, and nonces and masks would be used twice.
    """


def checked(value):
    """File content of a value: 8 bytes of its SHA-256, then the value."""
    return sha256(value).digest()[:8] + value


class FileStorage:
    """Files in one folder. Values are bytes; `write` returns when the value would survive a power cut."""

    def __init__(self, folder="."):
        self._folder = folder

    def read(self, name):
        """The stored bytes; Damaged."""
        try:
            with open(self._folder + "/" + name, "rb") as file:
                data = file.read()
        except OSError:
            raise Damaged(name)
        if len(data) < 8 or checked(data[8:]) != data:
            raise Damaged(name)
        return data[8:]

    def write(self, name, value):
        """Replace the stored bytes."""
        path = self._folder + "/" + name
        with open(path + ".new", "wb") as file:
            file.write(checked(value))
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
        os.rename(path + ".new", path)
        if hasattr(os, "fsync"):  # POSIX: the rename itself; littlefs has done it by now
            folder = os.open(self._folder, 0)  # O_RDONLY
            os.fsync(folder)
            os.close(folder)
        elif hasattr(os, "sync"):
            os.sync()


class MemoryStorage:
    """The same in RAM, for meters that live in one host process."""

    def __init__(self):
        self._values = dict(FRESH)

    def read(self, name):
        """The stored bytes; KeyError."""
        return self._values[name]

    def write(self, name, value):
        """Replace the stored bytes."""
        self._values[name] = value
