"""What provisioning brought by cable and does not change: record, identity, keys, tables.

Seeds do change, every day: see seeds.py.
"""

from wattveil_meter.cipher import Comb, table_digest
from wattveil_meter.fields import Malformed, read_uint, unpack
from wattveil_meter.record import Record


class Package:
    """record: Record. id: bytes. number: place in the roster, from 1. Keys: 32 bytes."""

    def __init__(self, record, secrets):
        """record, secrets: bytes of record.bin and meter.bin; Malformed when they are not."""
        self.record = Record.parse(record)
        parts = unpack(secrets, 6)
        if parts[0] != b"wattveil meter 1":
            raise Malformed("not a meter's secrets of version 1")
        self.id = parts[1]
        self.number = read_uint(parts[2])
        self.link_key, self.registration_key, self.drbg_secret = parts[3:]
        for key in parts[3:]:
            if len(key) != 32:
                raise Malformed("key is not 32 bytes")


def open_tables(record, names, files, ring):
    """{name: Comb} of the tables a suite needs, each checked against the record; Malformed.

    names: of ("h", "s"); files: name -> seekable binary; ring: the kernel that reads them.
    """
    allowed = [record.tables[i : i + 32] for i in range(0, len(record.tables), 32)]
    needed = {"h": 256, "s": record.randomiser_bits}
    combs = {}
    for name in names:
        if name not in files:
            raise Malformed("table " + name + " is missing")
        if table_digest(files[name]) not in allowed:
            raise Malformed("table " + name + " is not one the record allows")
        combs[name] = Comb(files[name], ring, name.encode())
        if combs[name].bits < needed[name]:
            raise Malformed("table " + name + " is for shorter exponents")
    return combs
