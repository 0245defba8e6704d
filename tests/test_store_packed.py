"""Packed records: whole appends or none through torn writes, and no damaged byte goes unnoticed."""

import multiprocessing
import os
import pickle
import random
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wattveil.store import packed
from wattveil.store.packed import EXTRA, HEADER, Damaged, PackedError, PackedFile, Span

SIZE = 24
RECORD = SIZE + EXTRA
LABEL = bytes(range(32))

Records = list[tuple[int, bytes]]


def records(count: int, first: int = 0) -> Records:
    return [(at * 3, random.Random(at).randbytes(SIZE)) for at in range(first, first + count)]


def write(path: Path, sizes: Sequence[int], committed: int = 0) -> Records:
    """Append batches of these sizes; everything that the file then holds."""
    with PackedFile(path, SIZE, LABEL, committed) as file:
        for size in sizes:
            span = file.append(records(size, file.count))
            assert (span.count, span.first + span.count) == (size, file.count)
        return records(file.count)


def read(path: Path, count: int, first: int = 0) -> Records:
    return [(key, bytes(data)) for key, data in Span(str(path), first, count).records()]


def reopened(path: Path, committed: int = 0) -> int:
    with PackedFile(path, SIZE, LABEL, committed) as file:
        return file.count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.packed"


def test_what_is_appended_is_read_in_any_part(path: Path) -> None:
    everything = write(path, [3, 1, 5])
    assert everything == write(path, [], committed=9) == read(path, 9)
    assert read(path, 4, 2) == everything[2:6] and read(path, 0, 9) == []
    span = pickle.loads(pickle.dumps(Span(str(path), 1, 7)))
    assert [(s.first, s.count) for s in span.split(3)] == [(1, 3), (4, 3), (7, 1)]
    assert [bytes(p) for part in span.split(3) for p in part.payloads()] == [
        data for _, data in everything[1:8]
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == HEADER.size + 9 * RECORD
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_windows_of_any_size_give_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = write(path, [50, 150])
    for window in (1, RECORD, 1000, 4096, 5000):
        monkeypatch.setattr(packed, "WINDOW", window)
        assert read(path, 200) == everything and reopened(path, 200) == 200


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A window of 1 MiB at a time: 64 MB read, a few MB more resident."""
    path = tmp_path / "large.packed"
    with PackedFile(path, 1 << 16, LABEL, 0) as file:
        file.append([(at, bytes(1 << 16)) for at in range(1000)])
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        grown = pool.apply(resident_growth, (Span(str(path), 0, 1000),))
    assert grown < 8 << 20


def resident_growth(span: Span) -> int:
    before = peak()
    assert sum(len(data) for data in span.payloads()) == 1000 << 16
    return peak() - before


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


batches = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(batches, st.data())
def test_a_torn_append_is_cut_off_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    """A power cut in the last append: any of its pages may be there, zero, or beyond the end."""
    path = tmp_path_factory.mktemp("torn") / "one.packed"
    everything = write(path, sizes)
    kept = sum(sizes[:-1])
    begin, end = HEADER.size + kept * RECORD, path.stat().st_size
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    for _ in range(data.draw(st.integers(0, 3))):
        hole = data.draw(st.integers(begin, end - 1))
        upto = min(end, hole + data.draw(st.integers(1, 3 * RECORD)))
        content[hole:upto] = bytes(upto - hole)
    torn = bytes(content[: data.draw(st.integers(begin, end))])
    assume(torn != whole)
    path.write_bytes(torn)
    assert reopened(path, kept) == kept
    assert path.stat().st_size == begin
    assert read(path, kept) == everything[:kept]
    assert write(path, [2], committed=kept) == read(path, kept + 2)  # and it goes on


@settings(max_examples=200, deadline=None)
@given(batches, st.data())
def test_no_flipped_bit_is_ever_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    """Anywhere in header or committed records: readers and writer refuse, nothing is cut off."""
    path = tmp_path_factory.mktemp("flip") / "one.packed"
    everything = write(path, sizes)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    count = len(everything)
    with pytest.raises(PackedError):
        reopened(path, count)
    assert path.read_bytes() == content
    with pytest.raises(PackedError):
        read(path, count)
    hit = (bit // 8 - HEADER.size) // RECORD
    if hit >= 0:  # others than the damaged one are still good
        assert read(path, hit) == everything[:hit]
        assert read(path, count - hit - 1, hit + 1) == everything[hit + 1 :]


@settings(max_examples=100, deadline=None)
@given(batches.filter(lambda sizes: len(sizes) > 1), st.data())
def test_damage_before_the_last_append_is_told_even_when_nothing_is_known_to_be_committed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("early") / "one.packed"
    write(path, sizes)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(HEADER.size, HEADER.size + sum(sizes[:-1]) * RECORD - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(Damaged, match="damaged"):
        reopened(path)
    assert path.read_bytes() == content


def test_records_of_another_place_or_file_are_none(path: Path, tmp_path: Path) -> None:
    write(path, [1, 1, 1])
    other = tmp_path / "other.packed"
    write(other, [1, 1, 1])  # the same records, another file
    content, foreign = bytearray(path.read_bytes()), other.read_bytes()
    first, second = HEADER.size, HEADER.size + RECORD
    assert content[first + RECORD :] != foreign[first + RECORD :]
    swapped = content[:first] + content[second : second + RECORD] + content[first:second]
    for wrong in (swapped + content[second + RECORD :], content[:first] + foreign[first:]):
        path.write_bytes(wrong)
        with pytest.raises(Damaged):
            read(path, 3)


def test_missing_records_are_damage(path: Path) -> None:
    write(path, [4])
    with pytest.raises(Damaged, match="4 are there"):
        read(path, 5)
    for first, count in ((-1, 2), (0, -1)):
        with pytest.raises(Damaged):
            read(path, count, first)
    os.truncate(path, HEADER.size + 3 * RECORD)
    with pytest.raises(Damaged, match="of 4 records"):
        reopened(path, 4)
    with pytest.raises(FileNotFoundError):
        reopened(path.with_name("gone"), 1)
    assert not path.with_name("gone").exists()


def test_files_that_are_no_ours_are_left_alone(path: Path) -> None:
    for content in (b"", b"notes", bytes(200), b"WVP1" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(PackedError):
            reopened(path)
        assert path.read_bytes() == content
    path.unlink()
    write(path, [1])
    for size, label in ((SIZE + 1, LABEL), (SIZE, bytes(32))):
        with pytest.raises(PackedError, match="another kind"):
            PackedFile(path, size, label, 0)


def test_one_writer_at_a_time(path: Path) -> None:
    with PackedFile(path, SIZE, LABEL, 0) as file:
        with pytest.raises(PackedError, match="another process"):
            PackedFile(path, SIZE, LABEL, 0)
        file.append(records(1))
        assert read(path, 1) == records(1)  # readers need no lock
        file.close()
    assert reopened(path, 1) == 1


def test_appends_that_cannot_be(path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        PackedFile(path, SIZE, b"short", 0)
    with PackedFile(path, SIZE, LABEL, 0) as file:
        for wrong in ([], [(0, bytes(SIZE - 1))], [(0, bytes(SIZE))] * 65_536):
            with pytest.raises(ValueError, match=r"batch|bytes"):
                file.append(wrong)
        assert file.count == 0 and path.stat().st_size == HEADER.size


def test_a_failed_write_stores_nothing_and_ends_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of a batch."""
    write(path, [2])
    with PackedFile(path, SIZE, LABEL, 2) as file:
        real, calls = os.pwrite, iter([20, None])

        def full(fd: int, data: bytes, at: int) -> int:
            some = next(calls)
            if some is None:
                raise OSError(28, "No space left on device")
            return real(fd, data[:some], at)

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="space"):
            file.append(records(3, 2))
        monkeypatch.undo()
        assert file.count == 2 and path.stat().st_size == HEADER.size + 2 * RECORD
        with pytest.raises(PackedError, match="open it again"):
            file.append(records(1, 2))
    assert write(path, [3], committed=2) == read(path, 5)


def append_for_ever(path: str, told: Connection) -> None:
    with PackedFile(path, SIZE, LABEL, 0) as file:
        while True:
            file.append(records(random.randrange(1, 40), file.count))
            told.send(file.count)


def test_killed_writers_lose_nothing_they_told(path: Path) -> None:
    """kill -9 at ten moments: what was acknowledged is there, and only whole batches."""
    context = multiprocessing.get_context("fork")
    for turn in range(10):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=append_for_ever, args=(str(path), writer))
        process.start()
        writer.close()
        told = 0
        for _ in range(3 + turn):
            told = reader.recv()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while True:
            try:
                told = reader.recv()
            except EOFError:
                break
        reader.close()
        count = reopened(path, told)
        assert count >= told and read(path, count) == records(count)
