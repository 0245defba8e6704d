"""Makes the vectors of field lists and records: fields.json, record.json."""

from __future__ import annotations

from functools import partial

from reference import basics
from reference.inputs import START, Json, bases, done, guarded, hx, record, refused, rnd, values

ODD = ("period_s", "phase_s", "epsilon_num", "epsilon_den", "offset")


def make_fields() -> list[Json]:
    lists = [[], [b""], [b"", b""], [b"a", b"bc"], [b"ab", b"c"], [rnd("field", 300), b"\0"]]
    good: list[Json] = []
    for parts in lists:
        data = basics.fields(*parts)
        assert basics.split(data, len(parts)) == parts
        hexes = [part.hex() for part in parts]
        good.append(done({"do": "pack", "parts": hexes}, bytes=data.hex()))
    bad: list[Json] = []
    for data, count in [
        ("", 1),
        ("000000", 1),
        ("0100000061", 2),
        ("0200000061", 1),
        ("ffffffff61", 1),
        ("010000006100", 1),
        ("0000000000000000", 1),
    ]:
        attempt = partial(basics.split, bytes.fromhex(data), count)
        bad.append(refused({"do": "unpack", "bytes": data, "count": count}, "malformed", attempt))
    ints: list[Json] = []
    for value in (0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 64, (1 << 512) - 1):
        ints.append(
            done({"do": "integer", "value": hx(value)}, bytes=basics.shortest(value).hex())
        )
    for data in ("00", "0100", "ff00", "000000"):
        attempt = partial(basics.from_shortest, bytes.fromhex(data))
        ints.append(refused({"do": "read_integer", "bytes": data}, "malformed", attempt))
    return [
        {"name": "field lists", "operations": good},
        {"name": "field lists that are refused", "operations": bad},
        {"name": "integers", "operations": ints},
    ]


def show(params: basics.Params) -> Json:
    shown: Json = {}
    for name, kind in basics.LAYOUT:
        value = params.v[name]
        if name in ("n", "h", "h_s"):
            shown[name] = hx(value)
        else:
            shown[name] = value.hex() if kind == "b" else value
    return shown


def make_record() -> list[Json]:
    out: list[Json] = []
    for name, changes in (
        ("a small fleet", {}),
        ("feed-in, own noise, no row check", {"lo": -500, "own_noise": 1, "row_check": 0}),
        ("large and coarse", {"roster_size": 1000, "quorum_count": 700, "colluding": 50}),
        (
            "an odd grid and a fine epsilon",
            dict(zip(ODD, (900, 600, 7, 10, 85715), strict=True)),
        ),
        ("suite compact", {"suite": "compact"}),
    ):
        more = dict(changes)
        if "lo" in more:
            more["offset"] = 90000
        p = record(256, **more)
        starts = []
        for now in (START - 1, START, START + 599, START + 600, START + 1799):
            start = now - (now - p.phase_s) % p.period_s
            starts.append(guarded({"now": now, "start": start}))
        out.append(
            {
                "name": name,
                "values": show(p),
                "raw": p.raw.hex(),
                "fingerprint": p.print.hex(),
                "nb": p.nb,
                "a": p.a,
                "exponent_bits": p.exponent_bits,
                "check_bits": p.check_bits,
                "randomiser_bits": p.randomiser_bits,
                "starts": starts,
            }
        )
    for level, bits in (("half", 128), ("full", 336)):
        p = record(256, level=level)
        assert p.randomiser_bits == bits
        out.append(
            {
                "name": f"level {level}",
                "raw": p.raw.hex(),
                "fingerprint": p.print.hex(),
                "randomiser_bits": bits,
            }
        )
    raw = record(256).raw
    parts = basics.split(raw, 26)

    def with_part(index: int, data: bytes) -> bytes:
        return basics.fields(*parts[:index], data, *parts[index + 1 :])

    n = bases(256)[0]
    bad: dict[str, bytes] = {
        "empty": b"",
        "cut": raw[:-1],
        "a byte too many": raw + b"\0",
        "a field too few": basics.fields(*parts[:-1]),
        "a field too many": basics.fields(*parts, b""),
        "another magic": with_part(0, b"wattveil record 2"),
        "text that is not UTF-8": with_part(1, b"yan\xff"),
        "an integer with a zero byte on top": with_part(3, parts[3] + b"\0"),
        "zero as a byte": with_part(11, b"\0"),
        **{
            f"{name} {value if not isinstance(value, bytes) else value.hex()}": (
                basics.encode_record(values(256, **{name: value}))
            )
            for name, value in (
                ("suite", "yan2025"),
                ("noise", "none"),
                ("level", "tiny"),
                ("fleet", b"vectors"),
                ("roster_digest", bytes(31)),
                ("tables", b""),
                ("tables", bytes(33)),
                ("gamma", 0),
                ("gamma", 256),
                ("quorum_count", 1),
                ("quorum_count", 5),
                ("colluding", 3),
                ("lo", 1000),
                ("epsilon_num", 0),
                ("epsilon_den", 0),
                ("offset", 59999),
                ("offset", 60001),
                ("unit", "kWh"),
                ("h", 0),
                ("h_s", bases(256)[0]),
                ("key_epoch", 2**31),
                ("period_s", 2**31),
                ("phase_s", 1800),
                ("period_s", 0),
                ("row_check", 2),
                ("own_noise", 2),
            )
        },
        "epsilon 2/2": basics.encode_record(values(256, epsilon_num=2, epsilon_den=2)),
        "a modulus of 192 bits": basics.encode_record(values(256, n=2**191 + 1, h=3, h_s=5)),
        "an even modulus": basics.encode_record(values(256, n=n + 1)),
        "a modulus of 255 bits": basics.encode_record(values(256, n=n // 2 | 1)),
    }
    operations = []
    for what, data in bad.items():
        attempt = partial(basics.parse_record, data)
        operations.append(
            refused({"do": "parse", "what": what, "raw": data.hex()}, "malformed", attempt)
        )
    return [*out, {"name": "records that are refused", "operations": operations}]
