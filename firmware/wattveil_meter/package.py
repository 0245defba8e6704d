"""What provisioning brought by cable: record, identity, keys and seeds, tables."""

from wattveil_meter.cipher import Comb, table_digest
from wattveil_meter.fields import Malformed, read_uint, unpack
from wattveil_meter.record import Record


class Package:
    """record: Record. id: bytes. number: place in the roster, from 1. Keys and seeds: 32 bytes."""

    def __init__(self, record, secrets):
        """record, secrets: bytes of record.bin and meter.bin; Malformed when they are not."""
        self.record = Record.parse(record)
        parts = unpack(secrets, 10)
        if parts[0] != b"wattveil meter 1":
            raise Malformed("not a meter's secrets of version 1")
        self.id = parts[1]
        self.number = read_uint(parts[2])
        self.link_key = parts[3]
        self.registration_key = parts[4]
        # (day index, seed): one record each, so that a later ratchet can move them together
        self.dealer_seed = (read_uint(parts[5]), parts[6])
        self.center_seed = (read_uint(parts[7]), parts[8])
        self.drbg_secret = parts[9]
        for key in (parts[3], parts[4], parts[6], parts[8], parts[9]):
            if len(key) != 32:
                raise Malformed("key or seed is not 32 bytes")


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
