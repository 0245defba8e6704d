"""A file of equal records that only grows: ciphertexts as they came, to be multiplied in bulk.

    header, 64 bytes: "WVP1" | u32 payload bytes | 32 bytes label | 16 random bytes | zero |
                      u32 CRC-32 of the 60 bytes before
    record:           u64 key | u16 place | u16 count | payload | u32 CRC-32

Integers are little-endian. An append is a batch: `count` records, `place` from 0, one write, one
fsync; whole or not at all. The CRC of record i begins at crc(header) + i, so a record of another
file or place is no valid one. It finds accidents, not forgeries.

One process writes (the file is locked), any number read through `Span`s: references to records
that were appended, picklable, that map a window at a time, so a reader of any size needs little
memory. Nothing removes records: delete the file when its period is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from zlib import crc32

MAGIC = b"WVP1"
HEADER = struct.Struct("<4sI32s16s4xI")
PREFIX = struct.Struct("<QHH")
SUFFIX = struct.Struct("<I")
EXTRA = PREFIX.size + SUFFIX.size  # bytes of a record beside its payload
MAX_BATCH = 0xFFFF
MAX_PAYLOAD = 1 << 20
MASK = 0xFFFFFFFF
RESIDUE = 0x2144DF1C  # the CRC-32 of anything with its own CRC-32 behind it
WINDOW = 1 << 20  # bytes mapped at a time

StrPath = str | os.PathLike[str]


class PackedError(Exception):
    """The file cannot be used; the message says why and what to do."""


class Damaged(PackedError):
    """A record that was stored is not what was written."""


@dataclass(frozen=True)
class Span:
    """Records `first` .. `first + count` of a file: what a task is given instead of data.

    path: as the reader sees it, so for workers on other machines a path on shared storage.
    """

    path: str
    first: int
    count: int

    def split(self, size: int) -> list[Span]:
        """Spans of at most `size` records that make up this one."""
        end = self.first + self.count
        starts = range(self.first, end, size)
        return [Span(self.path, at, min(size, end - at)) for at in starts]

    def payloads(self) -> Iterator[memoryview]:
        """The payloads in order, each checked; valid until the next one is asked for.

        PackedError, Damaged, OSError.
        """
        for record in self._checked():
            yield record[PREFIX.size : -SUFFIX.size]

    def records(self) -> Iterator[tuple[int, memoryview]]:
        """(key, payload) in order, as `payloads`."""
        for record in self._checked():
            yield PREFIX.unpack_from(record)[0], record[PREFIX.size : -SUFFIX.size]

    def _checked(self) -> Iterator[memoryview]:
        with open(self.path, "rb") as file:
            layout = _read_header(file, self.path)
            stored = layout.whole_records(os.fstat(file.fileno()).st_size)
            if not 0 <= self.first <= self.first + self.count <= stored:
                raise Damaged(f"{self.path}: records up to {self.first + self.count} are asked for,"
                              f" {stored} are there")  # fmt: skip
            for index, record in layout.mapped(file.fileno(), self.first, self.count):
                if crc32(record, layout.salt + index & MASK) != RESIDUE:
                    raise Damaged(f"{self.path}: record {index} is damaged")
                yield record


class PackedFile:
    """The writer of one file.

    A new file gets `label` (32 bytes: whose records these are) and the size of its payloads; an
    old one must have the same. `committed` says how many records the owner knows to be stored:
    with fewer valid ones the file is `Damaged`, while an append that a crash cut short behind
    them is removed. PackedError, OSError.
    """

    def __init__(self, path: StrPath, payload_bytes: int, label: bytes, committed: int) -> None:
        if not 1 <= payload_bytes <= MAX_PAYLOAD or len(label) != 32:
            raise ValueError(f"payloads of 1 to {MAX_PAYLOAD} bytes, a label of 32 bytes")
        self.path = Path(path)
        self._broken = False
        if not committed and not self.path.exists():
            _create(self.path, payload_bytes, label)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise PackedError(f"{path} is being written by another process") from error
            with open(self._fd, "rb", closefd=False) as file:
                self._layout = _read_header(file, path)
            if (self._layout.payload, self._layout.label) != (payload_bytes, label):
                raise PackedError(f"{path} holds records of another kind; move it away")
            self.count = self._recover(committed)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, records: Sequence[tuple[int, bytes]]) -> Span:
        """Store (key, payload) for each, durably and all of them or none; where they are now.

        1 to 65,535 records of the file's payload size, else ValueError. OSError: nothing was
        stored; where even that is not certain, the file must be opened anew.
        """
        if self._broken:
            raise PackedError(f"{self.path}: an earlier write failed; open it again")
        if not 1 <= len(records) <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH} records")
        data, salt = bytearray(), self._layout.salt + self.count
        for place, (key, payload) in enumerate(records):
            if len(payload) != self._layout.payload:
                raise ValueError(f"payloads have {self._layout.payload} bytes here")
            record = PREFIX.pack(key, place, len(records)) + payload
            data += record + SUFFIX.pack(crc32(record, salt + place & MASK))
        at = self._layout.offset(self.count)
        try:
            _write_all(self._fd, data, at)
            os.fsync(self._fd)
        except BaseException:
            # What a failed fsync left on disk is unknown, and a second one may lie about it.
            self._broken = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, at)
            raise
        stored = Span(str(self.path), self.count, len(records))
        self.count += len(records)
        return stored

    def close(self) -> None:
        """Give up file and lock; closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _recover(self, committed: int) -> int:
        """Check every record and cut off an append that was not finished; how many are left."""
        layout = self._layout
        there = layout.whole_records(os.fstat(self._fd).st_size)
        good = done = 0  # records in whole batches; of the batch that is being read
        broken = False
        for index, record in layout.mapped(self._fd, 0, there):
            _, place, count = PREFIX.unpack_from(record)
            valid = crc32(record, layout.salt + index & MASK) == RESIDUE
            if broken:
                # An append begins when all before it are on disk: a valid record of a later one
                # says that what is broken here had been stored.
                if valid and index - place > good:
                    raise Damaged(f"{self.path}: a record from {good} on is damaged;"
                                  " restore the file from a copy")  # fmt: skip
            elif not valid or place != done:
                broken = True
            else:
                done += 1
                if done == count:
                    good, done = good + done, 0
        if good < committed:
            raise Damaged(f"{self.path}: of {committed} records {good} are intact;"
                          " restore the file from a copy")  # fmt: skip
        os.ftruncate(self._fd, layout.offset(good))
        os.fsync(self._fd)
        return good


@dataclass(frozen=True)
class _Layout:
    """Where records are and how they are checked, from a file's header."""

    payload: int
    label: bytes
    salt: int

    @property
    def record(self) -> int:
        return self.payload + EXTRA

    def offset(self, index: int) -> int:
        return HEADER.size + index * self.record

    def whole_records(self, size: int) -> int:
        return max(0, size - HEADER.size) // self.record

    def mapped(self, fd: int, first: int, count: int) -> Iterator[tuple[int, memoryview]]:
        """Each record's index and bytes, a window of the file at a time."""
        size, grain = self.record, mmap.ALLOCATIONGRANULARITY
        step = max(1, WINDOW // size)
        for begin in range(first, first + count, step):
            some = min(step, first + count - begin)
            start = self.offset(begin)
            lead = start % grain
            length = lead + some * size
            # The window is unmapped when its last view is gone.
            window = memoryview(
                mmap.mmap(fd, length, access=mmap.ACCESS_READ, offset=start - lead)
            )
            for index, at in zip(
                range(begin, begin + some), range(lead, length, size), strict=True
            ):
                yield index, window[at : at + size]


def _create(path: Path, payload_bytes: int, label: bytes) -> None:
    """A file with a header, there as a whole or not at all."""
    head = HEADER.pack(MAGIC, payload_bytes, label, secrets.token_bytes(16), 0)[: -SUFFIX.size]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write_all(fd, head + SUFFIX.pack(crc32(head)), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):  # another process was first: its file it is
            os.link(temporary, path)
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the file's name, too, must survive a power cut
    finally:
        os.close(folder)


def _read_header(file: BinaryIO, path: StrPath) -> _Layout:
    data = file.read(HEADER.size)
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise PackedError(f"{path} is not a file of packed records")
    _, payload, label, _, check = HEADER.unpack(data)
    salt = crc32(data[: -SUFFIX.size])
    if salt != check or not 1 <= payload <= MAX_PAYLOAD:
        raise Damaged(f"{path}: its header is damaged; restore the file from a copy")
    return _Layout(payload, label, salt)


def _write_all(fd: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
