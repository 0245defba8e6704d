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


class Missing(Damaged):
    """It is gone, or was never written."""


# Zeros before a value that a block was got ready for: more than littlefs would keep in its directory.
_LEAD = 520
READY = "ready"  # folder of the file that is


def _sum(value):
    return sha256(value).digest()[:8]


def checked(value):
    """File content of a value: itself, 8 bytes of its SHA-256, and its length as u32."""
    return value + _sum(value) + struct.pack("<I", len(value))


def _value(name, data):
    """The value that `checked` made this of; Damaged."""
    value = data[:-12]
    if checked(value) != data:
        raise Damaged(name)
    return value


class FileStorage:
    """Files in one folder. Values are bytes; `write` returns when the value would survive a power cut."""

    def __init__(self, folder="."):
        self._folder = folder
        self._ready = None  # (name, sum of the value before, open file) after `prepare`

    def read(self, name):
        """The stored bytes; Damaged."""
        value = self._replaced(name)
        later = self._later(name, value)
        return value if later is None else later

    def prepare(self, name):
        """Make the next write of `name` a quick one, which erases no flash: that takes longer than all else.
        For one name, always the same.

        Erased is the block under the first bytes of a new file, so these are written now: zeros. And,
        whenever a directory's block is full, another one for the directory: so the file gets a new
        directory, with room. Until `write` closes it, the old value stands; after that, the new one
        does as long as the old one is there, which it names. POSIX has nothing to prepare.
        """
        if self._ready or hasattr(os, "fsync"):
            return
        folder = self._path(READY)
        file = None
        try:
            value = self.read(name)
            if value != self._replaced(name):
                self._replace(name, value)  # what is ready now is the only copy
            self._drop(name)
            os.mkdir(folder)
            file = open(folder + "/" + name, "wb")
            file.write(bytes(_LEAD))
            self._ready = name, _sum(value), file
        except (OSError, Damaged):  # full: `write` will say so
            try:
                if file:
                    file.close()
            except OSError:
                pass

    def write(self, name, value):
        """Store other bytes."""
        if self._ready and self._ready[0] == name:
            _, before, file = self._ready
            self._ready = None
            with file:
                file.write(checked(before + value))
            self._sync()
        else:
            self._replace(name, value)

    def _path(self, name):
        return self._folder + "/" + name

    def _replaced(self, name):
        try:
            with open(self._path(name), "rb") as file:
                return _value(name, file.read())
        except OSError:
            raise Missing(name)

    def _later(self, name, value):
        """What was written after `prepare`, while `value` was stored; None for nothing."""
        try:
            with open(self._path(READY + "/" + name), "rb") as file:
                data = file.read()
        except OSError:
            return None
        if data == bytes(len(data)):  # reset before it was written
            return None
        if data[:_LEAD] != bytes(_LEAD):
            raise Damaged(name)
        later = _value(name, data[_LEAD:])
        return later[8:] if later[:8] == _sum(value) else None

    def _replace(self, name, value):
        path = self._path(name)
        with open(path + ".new", "wb") as file:
            file.write(checked(value))
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
        os.rename(path + ".new", path)
        self._sync()
        try:
            again = self._later(name, value) is not None  # what once came after this very value
        except Damaged:
            again = True
        if again:
            self._drop(name)

    def _drop(self, name):
        """Remove what is ready for `name`."""
        for remove, path in ((os.remove, "/" + name), (os.rmdir, "")):
            try:
                remove(self._path(READY) + path)
            except OSError:  # not there, or there is another in it
                pass

    def _sync(self):
        """Make what was done to the folder last: POSIX; littlefs has done it by now."""
        if hasattr(os, "fsync"):
            folder = os.open(self._folder, 0)  # O_RDONLY
            os.fsync(folder)
            os.close(folder)
        elif hasattr(os, "sync"):
            os.sync()


class MemoryStorage:
    """The same in RAM, for meters that live in one host process."""

    def __init__(self, values=()):
        """values: name -> bytes, beside or in the place of FRESH: a meter needs its seeds.bin."""
        self._values = dict(FRESH)
        self._values.update(values)

    def read(self, name):
        """The stored bytes; KeyError."""
        return self._values[name]

    def prepare(self, name):
        """Nothing: RAM needs no erasing."""

    def write(self, name, value):
        """Replace the stored bytes."""
        self._values[name] = value
