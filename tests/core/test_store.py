"""Stored files: replaced whole, checked when read, never silently started anew."""

import os

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


def test_what_is_prepared_for_stays_as_it_was_until_it_is_written():
    storage = FileStorage(".")
    one, other = "test_store_1.tmp", "test_store_2.tmp"
    try:
        storage.write(one, b"old")
        for value in (bytes(700), b"", b"short"):
            before = storage.read(one)
            storage.prepare(one)
            storage.prepare(one)
            assert storage.read(one) == before
            storage.write(other, value)  # not the file that was prepared
            assert storage.read(other) == value
            storage.write(one, value)
            assert storage.read(one) == value
        storage.prepare(one)
        again = FileStorage(".")  # the power was cut
        assert again.read(one) == b"short"
        again.write(one, b"new")
        assert again.read(one) == b"new"
    finally:
        for path in (one, other):
            os.remove(path)


def test_every_damaged_byte_is_found():
    path = "test_store.tmp"
    storage = FileStorage(".")
    try:
        for lead in (b"", bytes(520)):
            good = lead + checked(b"value")
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
