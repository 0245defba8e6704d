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


def test_fresh_state_counts_from_zero():
    assert [read_uint(part) for part in unpack(FRESH["boot.bin"], 2)] == [0, 0]
    assert unpack(FRESH["period.bin"], 4) == [b"", b"", b"", b""]
    assert MemoryStorage().read("boot.bin") == FRESH["boot.bin"]
