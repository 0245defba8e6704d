"""The vectors: reproducible, right, sensitive to every value; and reference against core at large."""

from __future__ import annotations

import ast
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import basics, inputs, noise, vectors, wire
from wattveil.vectors import check, check_file, main
from wattveil_meter import wire as core_wire
from wattveil_meter.drbg import Drbg
from wattveil_meter.fields import Malformed
from wattveil_meter.noise import make_sampler
from wattveil_meter.record import FIELDS, Record

FOLDER = Path(__file__).parent.parent / "docs" / "vectors"
FILES = sorted(f"{name}.json" for name in vectors.FILES)
Json = Any


# --- the files -----------------------------------------------------------------------------------


def test_making_them_again_changes_nothing() -> None:
    made = vectors.make_all()
    assert sorted(made) == FILES == sorted(path.name for path in FOLDER.iterdir())
    for name, text in made.items():
        assert (FOLDER / name).read_bytes() == text.encode(), name


def test_the_reference_is_independent() -> None:
    for path in (Path(__file__).parent / "reference").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if alias.name]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not any(name.startswith("wattveil") for name in names), path


def test_every_vector_passes(capsys: pytest.CaptureFixture[str]) -> None:
    results = check(FOLDER)
    assert [result for result in results if not result.ok] == []
    assert {result.file for result in results} == set(FILES)
    assert main(FOLDER) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(FILES) + len(results)


def test_the_protocol_names_tests_that_exist() -> None:
    root = FOLDER.parent.parent
    named = set(re.findall(r"::(test_\w+)", (FOLDER.parent / "PROTOCOL.md").read_text()))
    sources = "".join(path.read_text() for path in root.glob("*tests/**/test_*.py"))
    assert named
    assert named <= set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))


def leaves(value: Json, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*at, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*at, i))
    else:
        yield at


def flipped(value: Json) -> Json:
    """Another value of the same type and, for text, length."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if not value:
        return "00"
    at = zlib.crc32(value.encode()) % len(value)
    return value[:at] + ("1" if value[at] == "0" else "0") + value[at + 1 :]


def changed(document: Json, at: tuple[Any, ...]) -> Json:
    if not at:
        return flipped(document)
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[at[0]] = changed(copy[at[0]], at[1:])
    return copy


@cache
def document(name: str) -> Json:
    return json.loads((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_any_changed_value_is_noticed(copy: Path, name: str) -> None:
    path = copy / name
    unnoticed = []
    for at in leaves(document(name)):
        path.write_text(json.dumps(changed(document(name), at)))
        if all(result.ok for result in check_file(path)):
            unnoticed.append(at)
    shutil.copy(FOLDER / name, path)
    assert unnoticed == []


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_missing_or_unknown_member_is_noticed(
    copy: Path, name: str, data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from(list(leaves(document(name)))))
    cut = data.draw(st.integers(0, len(at) - 1))
    made = holder = json.loads(json.dumps(document(name)))
    for key in at[:cut]:
        holder = holder[key]
    if not isinstance(holder, dict):
        return
    if data.draw(st.booleans()) or at[cut] == "guard":
        holder["unknown"] = 1
    else:
        del holder[at[cut]]
    path = copy / name
    path.write_text(json.dumps(made))
    try:
        assert any(not result.ok for result in check_file(path))
    finally:
        shutil.copy(FOLDER / name, path)


def test_strangers_and_damage_are_failures_not_tracebacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path / "nowhere") == 2 == main(tmp_path)
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    assert main(tmp_path) == 0
    good = (tmp_path / "prf.json").read_text()
    for text in (
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        "\udcff",
        good[:-9],
        good.replace("vectors 1", "vectors 2"),
        good.replace('"prf"', '"drbg"'),
        '{"format": "wattveil vectors 1", "file": "prf", "vectors": 5}',
        '{"format": "wattveil vectors 1", "file": "prf", "vectors": [5]}',
        '{"format": "wattveil vectors 1", "file": "prf", "vectors": []}',
    ):
        (tmp_path / "prf.json").write_bytes(text.encode(errors="surrogateescape"))
        assert main(tmp_path) == 1, text[:60]
        assert "prf.json" in capsys.readouterr().out
    (tmp_path / "prf.json").write_text(good)
    (tmp_path / "extra.json").write_text(good)
    assert main(tmp_path) == 1
    (tmp_path / "extra.json").unlink()
    (tmp_path / "group.json").unlink()
    assert [r.problem for r in check(tmp_path) if not r.ok] == ["missing"]


# --- reference and core, side by side ------------------------------------------------------------

LINK, FLEET, HINT = b"l" * 32, b"fleet--1", b"hint-hin"
types = st.sampled_from(sorted(core_wire.TYPES))
starts = st.integers(0, (86400 << 32) - 1)


def test_both_know_the_same_types_and_fields() -> None:
    assert set(core_wire.TYPES) == wire.TYPES
    assert list(FIELDS) == basics.LAYOUT
    stuffed = {byte for byte in range(256) if len(core_wire.stuff(bytes([byte] * 200))) > 400}
    assert stuffed == set(wire.SPECIAL)


@given(
    types,
    st.binary(max_size=300),
    starts,
    st.integers(0, (1 << 64) - 1),
    st.integers(1, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.booleans(),
)
def test_both_seal_the_same_frames(
    type: int, payload: bytes, start: int, reply: int, boot: int, sender: int, up: bool
) -> None:
    channel = core_wire.Channel(LINK, FLEET, sender, 5, up, HINT + bytes(24), boot)
    direction = b"up" if up else b"down"
    for sequence in (1, 2):
        counter = boot << 32 | sequence
        args = (LINK, FLEET, direction, sender, HINT, type, counter, reply, start, payload)
        assert channel.seal(type, payload, start, reply) == wire.seal(*args)


def verdict(receiver: Any, frame: bytes) -> object:
    try:
        got = receiver.open(frame)
    except (basics.Bad, core_wire.Refused) as refusal:
        return refusal.args[0]
    if isinstance(got, dict):
        return tuple(got[key] for key in ("type", "start", "counter", "reply", "payload"))
    return (got.type, got.start, got.counter, got.reply, got.payload)


headers = st.fixed_dictionaries(
    {
        "fleet": st.sampled_from([FLEET, b"fleet--2"]),
        "sender": st.sampled_from([7, 7, 7, 8]),
        "hint": st.sampled_from([HINT, HINT, HINT, bytes(8)]),
        "type": st.sampled_from([1, 5, 5, 0x7F, 0x3E]),
        "counter": st.integers(1, 6),
        "reply": st.just(0),
        "start": st.sampled_from([0, 1358121600]),
        "payload": st.binary(max_size=48),
        "link": st.sampled_from([LINK, LINK, LINK, bytes(32)]),
        "direction": st.sampled_from([b"up", b"up", b"up", b"down"]),
    }
)
edits = st.tuples(st.integers(0, 119), st.integers(0, 255), st.booleans())


@settings(max_examples=300)
@given(st.lists(st.tuples(headers, st.lists(edits, max_size=2), st.integers(-2, 2)), max_size=8))
def test_both_judge_frames_alike(steps: list[tuple[Any, list[Any], int]]) -> None:
    """Headers right and wrong, bytes changed with and without a new tag, lengths cut and grown."""
    ours = core_wire.Channel(LINK, FLEET, 0, 7, False, HINT + bytes(24), 1, 40)
    theirs = wire.Receiver(LINK, FLEET, b"up", 7, HINT, 40)
    for header, changes, more in steps:
        frame = bytearray(wire.seal(**header))
        for at, byte, retag in changes:
            frame[at % len(frame)] = byte
            if retag:
                key = wire.link_keys(header["link"], header["fleet"], header["direction"])[1]
                frame[-16:] = basics.mac(key, bytes(frame[:-16]))[:16]
        made = bytes(frame[: len(frame) + min(more, 0)]) + bytes(max(more, 0))
        assert verdict(ours, made) == verdict(theirs, made)


@given(st.lists(st.binary(max_size=120), max_size=4), st.binary(max_size=30), st.integers(0, 400))
def test_both_stuff_and_unstuff_alike(frames: list[bytes], junk: bytes, at: int) -> None:
    stream = b"".join(wire.stuff(frame) for frame in frames)
    assert stream == b"".join(core_wire.stuff(frame) for frame in frames)
    stream = stream[:at] + junk + stream[at:] + b"\x7e"
    deframer = core_wire.Deframer(100)
    got, damaged, oversized = wire.unstuff(stream, 100)
    assert deframer.feed(stream) == got
    assert deframer.refused == {"damaged": damaged, "oversized": oversized}


record_changes = st.fixed_dictionaries(
    {},
    optional={
        "suite": st.sampled_from(["yan2024", "compact", ""]),
        "noise": st.sampled_from(["gamma", "discrete", "laplace"]),
        "level": st.sampled_from(["short", "half", "full", "none"]),
        "roster_size": st.integers(0, 1 << 20),
        "gamma": st.integers(0, 257),
        "quorum_count": st.integers(0, 1 << 20),
        "colluding": st.integers(0, 8),
        "lo": st.integers(-5000, 5000),
        "hi": st.integers(-5000, 5000),
        "epsilon_num": st.integers(0, 50),
        "epsilon_den": st.integers(0, 50),
        "offset": st.integers(0, 10**8),
        "period_s": st.integers(0, 90000),
        "phase_s": st.integers(0, 90000),
        "row_check": st.integers(0, 2),
        "own_noise": st.integers(0, 2),
        "fleet": st.binary(min_size=7, max_size=9),
        "tables": st.binary(max_size=2).map(lambda b: b * 32),
        "n": st.sampled_from([inputs.bases(256)[0], inputs.bases(256)[0] + 1, 15, 1 << 64]),
    },
)


@settings(max_examples=300)
@given(record_changes, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=2))
def test_both_judge_records_alike(changes: dict[str, Any], damage: list[tuple[int, int]]) -> None:
    raw = bytearray(basics.encode_record(inputs.values(256, **changes)))
    for at, byte in damage:
        raw[at % len(raw)] = byte
    try:
        theirs = basics.parse_record(bytes(raw))
    except basics.Bad:
        with pytest.raises(Malformed):
            Record.parse(bytes(raw))
        return
    ours: Any = Record.parse(bytes(raw))
    assert {name: getattr(ours, name) for name, _ in FIELDS} == theirs.v
    assert ours.fingerprint == theirs.print
    for name in ("nb", "a", "exponent_bits", "check_bits", "randomiser_bits"):
        assert getattr(ours, name) == getattr(theirs, name), name


@given(st.binary(min_size=32, max_size=40), st.lists(st.integers(0, 300), max_size=20))
def test_both_generators_give_the_same_bits(entropy: bytes, counts: list[int]) -> None:
    ours, theirs = Drbg(entropy), noise.Drbg(entropy)
    for count in counts:
        assert ours.bits(count) == theirs.bits(count)
        assert ours.below(count + 1) == theirs.below(count + 1)
    assert ours.bytes(40) == theirs.bytes(40)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 200),
    st.fractions(min_value=Fraction(1, 20), max_value=4, max_denominator=20),
    st.integers(1, 100_000),
)
def test_both_samplers_give_the_same_shares(
    entropy: bytes, a: int, epsilon: Fraction, delta: int
) -> None:
    pairs = (("discrete", noise.discrete_share, 0), ("gamma", noise.gamma_share, 1))
    for kind, share, slack in pairs:
        ours, theirs = Drbg(entropy), noise.Drbg(entropy)
        sampler = make_sampler(kind, a, epsilon.numerator, epsilon.denominator, delta)
        for _ in range(5):
            assert abs(sampler.share(ours) - share(theirs, a, epsilon, delta)) <= slack
