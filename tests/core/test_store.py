"""Stored files: replaced whole, checked when read, never silently started anew."""

import os
from hashlib import sha256

from wattveil_meter.fields import read_uint, unpack
from wattveil_meter.store import FRESH, Damaged, FileStorage, MemoryStorage, checked


def damaged(storage, name):
    try:
        storage.read(name)
    except Damaged:
        return True
    return False


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def test_round_trip_and_damage():
    path = "test_store.tmp"
    storage = FileStorage(".")
    try:
        storage.write(path, b"one")
        storage.write(path, b"two")
        assert storage.read(path) == b"two"
        write(path, checked(b"three")[:-1])
        assert damaged(storage, path)
        write(path, b"short")
        assert damaged(storage, path)
    finally:
        os.remove(path)
    assert damaged(storage, path)  # a lost file is no first start: counters would repeat


FOLDER, NAME = "test_store_folder", "state.bin"
READY = FOLDER + "/ready"


def emptied():
    """A FileStorage of an empty FOLDER."""
    for folder in (READY, FOLDER):
        try:
            for name in os.listdir(folder):
                if name != "ready":
                    os.remove(folder + "/" + name)
            os.rmdir(folder)
        except OSError:
            pass
    os.mkdir(FOLDER)
    return FileStorage(FOLDER)


def ready(before, value):
    """The file that a write after `prepare` leaves; CPython prepares nothing."""
    try:
        os.mkdir(READY)
    except OSError:
        pass
    data = bytes(520) + checked(sha256(before).digest()[:8] + value)
    write(READY + "/" + NAME, data)
    return data


def test_what_is_prepared_for_stays_as_it_was_until_it_is_written():
    storage = emptied()
    storage.write(NAME, b"old")
    for value in (bytes(700), b"", b"short", b"short"):
        before = storage.read(NAME)
        storage.prepare(NAME)
        storage.prepare(NAME)
        assert storage.read(NAME) == before
        assert FileStorage(FOLDER).read(NAME) == before  # the power was cut
        storage.write("other", value)  # not the file that was prepared
        assert storage.read("other") == value
        storage.write(NAME, value)
        assert storage.read(NAME) == FileStorage(FOLDER).read(NAME) == value
    storage.write(NAME, b"new")
    assert storage.read(NAME) == FileStorage(FOLDER).read(NAME) == b"new"
    storage.prepare(NAME)
    again = FileStorage(FOLDER)
    again.write(NAME, b"newer")
    assert again.read(NAME) == b"newer"
    again.prepare(NAME)
    again.write(NAME, b"newest")
    assert again.read(NAME) == b"newest"
    emptied()


def test_what_was_ready_counts_after_the_value_it_names_only():
    storage = emptied()
    storage.write(NAME, b"rows")
    ready(b"rows", b"report")
    assert storage.read(NAME) == b"report"
    storage.write(NAME, b"rows of the next period")
    assert storage.read(NAME) == b"rows of the next period"
    storage.write(NAME, b"rows")  # the very same once more
    ready(b"rows", b"report")
    storage.write(NAME, b"rows")
    assert storage.read(NAME) == FileStorage(FOLDER).read(NAME) == b"rows"
    ready(b"another meter's", b"report")  # the files of another fleet were copied over
    assert storage.read(NAME) == b"rows"
    os.remove(FOLDER + "/" + NAME)
    assert damaged(storage, NAME)
    emptied()


def test_what_was_cut_short_is_the_old_value_and_what_rotted_is_damaged():
    storage = emptied()
    storage.write(NAME, b"rows")
    whole = ready(b"rows", b"report")
    for zeros in (0, 1, 520):  # a soft reset closes files as they are
        write(READY + "/" + NAME, bytes(zeros))
        assert storage.read(NAME) == b"rows"
    for at in range(len(whole)):
        bad = bytearray(whole)
        bad[at] ^= 1
        write(READY + "/" + NAME, bad)
        assert damaged(storage, NAME), at
        if at % 50 == 0:
            storage.prepare(NAME)  # no crash
            storage.write(NAME, b"rows")
            assert storage.read(NAME) == b"rows"
            ready(b"rows", b"report")
    emptied()


def test_every_damaged_byte_is_found():
    path = "test_store.tmp"
    storage = FileStorage(".")
    try:
        good = checked(b"value")
        write(path, good)
        assert storage.read(path) == b"value"
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= 1
            write(path, bad)
            assert damaged(storage, path), at
        for bad in (good[1:], b"\0" + good, good + b"\0", good[:-4], b""):
            write(path, bad)
            assert damaged(storage, path)
    finally:
        os.remove(path)


def test_fresh_state_counts_from_zero():
    assert [read_uint(part) for part in unpack(FRESH["boot.bin"], 2)] == [0, 0]
    assert unpack(FRESH["period.bin"], 4) == [b"", b"", b"", b""]
    assert MemoryStorage().read("boot.bin") == FRESH["boot.bin"]
