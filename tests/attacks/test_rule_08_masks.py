"""Rule 8: no mask may repeat across suites, fleets, rosters, keys, period lengths, periods or labels.

With a PRF over (label, start) alone, a meter that reports the same half hour under two records (a new
roster, another epsilon) uses the same u_i, v_i and k_i twice: C / C' has no h in it, and with the centre's
key the difference of the two readings is there, no dealer asked. A PRF whose outputs are linear in
their inputs (AggFT: PRF(a) xor PRF(b) = a xor b) gives every mask away once one is known. With the whole
fingerprint and length-prefixed fields under HMAC, masks of records that differ anywhere are unrelated.
"""

from __future__ import annotations

import itertools
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

import support
from attacks.kit import CORE, SEEDS, START, Bench, Shares
from wattveil.audit.attacks.masks import two_records
from wattveil.audit.weak import WEAKNESSES
from wattveil_meter import masks
from wattveil_meter.fields import pack, unpack
from wattveil_meter.record import FIELDS

MASKS = (masks.mask_u, masks.mask_k, masks.mask_v)


def without_the_record(seed: bytes, label: bytes, record: Any, start: int, size: int) -> bytes:
    """The PRF over (label, start) only."""
    out = b""
    while len(out) < size:
        out += masks.hmac_sha256(seed, label + masks.u64(start) + bytes((len(out) // 32,)))
    return out[:size]


def all_records() -> list[Any]:
    """One record for each field changed alone: what masks use of it. Not all of them would pass a
    meter's checks, which are no part of the PRF."""
    plain: Any = support.record()
    magic, *parts = unpack(plain.raw, 1 + len(FIELDS))
    records = [plain]
    for i, (name, _) in enumerate(FIELDS):
        changed = bytearray(parts[i] or b"\0")
        changed[0] ^= 2  # of a number: its lowest byte
        raw = pack(magic, *parts[:i], changed, *parts[i + 1 :])
        uses = {field: getattr(plain, field) for field in ("n", "nb", "period_s")}
        if name in uses:
            uses[name] = int.from_bytes(changed, "little")
        records.append(SimpleNamespace(fingerprint=sha256(raw).digest(), **uses))
    assert len({record.fingerprint for record in records}) == 1 + len(FIELDS)
    return records


@pytest.mark.parametrize("rule", [False, True])
def test_masks_of_records_that_differ_in_one_field(
    monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    if not rule:
        monkeypatch.setattr(masks, "prf", without_the_record)
    records = all_records()
    for mask in MASKS:
        values = [int(mask(record, SEEDS[0], START)) for record in records]
        if not rule:
            assert len(set(values)) <= 2  # only n reduces u differently
            continue
        bits = {masks.mask_u: 256, masks.mask_k: 256, masks.mask_v: 128}[mask]
        for a, b in itertools.combinations(values, 2):
            assert abs(a - b) > 1 << bits - 64  # of 300 pairs: chance 2^-55
            assert abs((a ^ b).bit_count() - bits / 2) < 8 * (bits / 4) ** 0.5


@pytest.mark.parametrize("field", ["roster_epoch", "epsilon_num", "gamma"])
@pytest.mark.parametrize("suite", CORE)
def test_two_records_over_one_half_hour(suite: str, field: str) -> None:
    """Cloud + centre; the dealer is not asked."""
    assert two_records(suite, 3, **{field: 4}).hits == 0
    with WEAKNESSES["masks-without-record"].planted():
        assert two_records(suite, 3, **{field: 4}).hits == 3


def test_labels_periods_and_seeds_separate_masks() -> None:
    """With one seed for everything, still no two masks agree, nor does one begin with another."""
    record = support.record()
    starts = [START + i * record.period_s for i in range(40)] + [START + 1, START + 86400, 0]
    outputs = [
        masks.prf(seed, label, record, start, 74)
        for seed in SEEDS
        for label in (b"u", b"k", b"v", b"", b"uu")
        for start in starts
    ]
    blocks = [out[i : i + 16] for out in outputs for i in (0, 16, 32, 48)]
    assert len(set(blocks)) == len(blocks)
    # u and k of a meter come from one seed: k is no part of u, nor u of k
    u = masks.prf(SEEDS[0], b"u", record, START, 74)
    assert masks.prf(SEEDS[0], b"k", record, START, 32) not in u


@pytest.mark.parametrize("rule", [False, True])
def test_one_half_hour_under_both_suites(monkeypatch: pytest.MonkeyPatch, rule: bool) -> None:
    """A fleet that moves to the other suite in the middle of a period; cloud + centre, and k_i of a
    smooth key (rule 3): u_i and v_i cancel."""
    if not rule:
        monkeypatch.setattr(masks, "prf", without_the_record)
    opened = []
    for suite, reading in (("yan2024", 700), ("compact", 180)):
        bench = Bench(suite=suite)
        play = bench.meter(suite, Shares([6, 0, 0]))
        slots = play.answer(bench.one_hot("row"))
        report = bench.strip(play.report(reading), bench.masks()[0])
        opened.append(bench.key.decrypt(report) + bench.key.decrypt(bench.product(slots)))
    difference = bench.signed(opened[0] - opened[1])
    assert (difference == 700 - 180) is (not rule)
    assert (abs(difference) > 1 << 200) is rule


@pytest.mark.parametrize("rule", [False, True])
def test_outputs_are_not_linear_in_inputs(rule: bool) -> None:
    """AggFT's bug: one known mask (a meter's own, a leaked period) gives all the others."""

    def linear(seed: bytes, label: bytes, record: Any, start: int, size: int) -> bytes:
        pad = int.from_bytes(sha256(seed + label).digest(), "little")
        return (pad ^ start).to_bytes(32, "little")[:size]

    prf = masks.prf if rule else linear
    record = support.record()
    starts = [START + i * record.period_s for i in range(64)]
    out = [int.from_bytes(prf(SEEDS[0], b"u", record, t, 32), "little") for t in starts]
    predicted = sum(
        a ^ b == s ^ t
        for (a, s), (b, t) in itertools.combinations(zip(out, starts, strict=True), 2)
    )
    assert predicted == (0 if rule else 64 * 63 // 2)
    # nor is the xor of three outputs the output of the xor of the inputs
    for s, t, w in zip(starts, starts[1:], starts[2:], strict=False):
        a, b, c, d = (
            int.from_bytes(prf(SEEDS[0], b"u", record, x, 32), "little")
            for x in (s, t, w, s ^ t ^ w)
        )
        assert (a ^ b ^ c == d) is (not rule)


def test_fields_cannot_slide_into_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without length prefixes ("u", "x..") and ("ux", "..") are one input."""
    a = SimpleNamespace(fingerprint=b"xyz", period_s=1800)
    b = SimpleNamespace(fingerprint=b"yz", period_s=1800)
    assert masks.prf(SEEDS[0], b"u", a, START, 32) != masks.prf(SEEDS[0], b"ux", b, START, 32)
    monkeypatch.setattr(masks, "pack", lambda *parts: b"".join(parts))
    assert masks.prf(SEEDS[0], b"u", a, START, 32) == masks.prf(SEEDS[0], b"ux", b, START, 32)
