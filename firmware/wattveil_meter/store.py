"""What a meter must not forget: small files, replaced atomically, each with a checksum.

littlefs and POSIX both rename over an existing file in one step, so that a power cut leaves the old
or the new content, never half of each.
"""

import os
from hashlib import sha256


class Damaged(Exception):
    """A stored file fails its checksum: counters can no longer be trusted; provision the meter again."""


class FileStorage:
    """Files in one folder. Values are bytes; `write` returns when the value would survive a power cut."""

    def __init__(self, folder="."):
        self._folder = folder

    def read(self, name):
        """The stored bytes, None when never written; Damaged when the checksum fails."""
        try:
            with open(self._folder + "/" + name, "rb") as file:
                data = file.read()
        except OSError:
            return None
        if len(data) < 8 or sha256(data[8:]).digest()[:8] != data[:8]:
            raise Damaged(name)
        return data[8:]

    def write(self, name, value):
        """Replace the stored bytes."""
        path = self._folder + "/" + name
        with open(path + ".new", "wb") as file:
            file.write(sha256(value).digest()[:8] + value)
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
        os.rename(path + ".new", path)
        if hasattr(os, "sync") and not hasattr(os, "fsync"):
            os.sync()


class MemoryStorage:
    """The same in RAM, for meters that live in one host process."""

    def __init__(self):
        self._values = {}

    def read(self, name):
        """The stored bytes, None when never written."""
        return self._values.get(name)

    def write(self, name, value):
        """Replace the stored bytes."""
        self._values[name] = value
