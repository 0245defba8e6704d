"""What a meter must not forget: small files, replaced atomically, each with a checksum.

littlefs and POSIX both rename over an existing file in one step, so that a power cut leaves the old
or the new content, never half of each.
"""

import os
import struct
from hashlib import sha256

from wattveil_meter.fields import pack, uint

# What provisioning writes, once: no start counted, no registration, no period begun.
FRESH = {"boot.bin": pack(uint(0), uint(0)), "period.bin": pack(uint(0), uint(0), b"", b"")}


class Damaged(Exception):
    """A file that provisioning wrote is gone or fails its checksum: provision the meter again.

    Without it counters would start anew, and nonces and masks would be used twice.
    """


# Bytes before a value for which a block was got ready: more than littlefs would keep in its directory.
_LEAD = 520


def checked(value):
    """File content of a value: itself, 8 bytes of its SHA-256, and its length as u32."""
    return value + sha256(value).digest()[:8] + struct.pack("<I", len(value))


class FileStorage:
    """Files in one folder. Values are bytes; `write` returns when the value would survive a power cut."""

    def __init__(self, folder="."):
        self._folder = folder
        self._ready = None  # (name, open file) after `prepare`

    def read(self, name):
        """The stored bytes; Damaged."""
        try:
            with open(self._folder + "/" + name, "rb") as file:
                data = file.read()
        except OSError:
            raise Damaged(name)
        lead = len(data) - 12 - int.from_bytes(data[-4:], "little")
        if lead in (0, _LEAD):
            value = data[lead:-12]
            if bytes(lead) + checked(value) == data:
                return value
        raise Damaged(name)

    def prepare(self, name):
        """Make the next write of `name` a quick one: what littlefs writes next has to be erased first,
        and that takes a flash longer than all else.

        Erased is the block under the first bytes of the new file, so these are written now: zeros.
        Until `write` closes the file, the old value stands. POSIX has nothing to prepare.
        """
        if self._ready or hasattr(os, "fsync"):
            return
        try:
            file = open(self._new(name), "wb")
        except OSError:  # `write` will say so
            return
        try:
            file.write(bytes(_LEAD))
            self._ready = name, file
        except OSError:  # full
            try:
                file.close()
            except OSError:
                pass

    def write(self, name, value):
        """Replace the stored bytes."""
        if self._ready and self._ready[0] == name:
            file = self._ready[1]
            self._ready = None
        else:
            file = open(self._new(name), "wb")
        with file:
            file.write(checked(value))
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
        os.rename(self._new(name), self._folder + "/" + name)
        if hasattr(os, "fsync"):  # POSIX: the rename itself; littlefs has done it by now
            folder = os.open(self._folder, 0)  # O_RDONLY
            os.fsync(folder)
            os.close(folder)
        elif hasattr(os, "sync"):
            os.sync()

    def _new(self, name):
        return self._folder + "/" + name + ".new"


class MemoryStorage:
    """The same in RAM, for meters that live in one host process."""

    def __init__(self):
        self._values = dict(FRESH)

    def read(self, name):
        """The stored bytes; KeyError."""
        return self._values[name]

    def prepare(self, name):
        """Nothing: RAM needs no erasing."""

    def write(self, name, value):
        """Replace the stored bytes."""
        self._values[name] = value
