"""The host's benchmark on small keys: every answer opened, records as promised, wrong ones told."""

import json
from dataclasses import replace
from typing import Any

import pytest
from gmpy2 import mpz

from undisturbed import undisturbed
from wattveil import cli
from wattveil.bench.host import RUNS, run_host
from wattveil.bench.host import decrypt as decrypt_module
from wattveil.bench.host.record import HostPlan, HostRecord, Way, opens_to, race, record
from wattveil.bench.host.show import promised, show_host
from wattveil.paillier.keys import PrivateKey, generate
from wattveil.paillier.textbook import encrypt_textbook

BITS = 512
KEYS = (
    "what stage bits suite gamma meters processes level value unit baseline baseline_value ratio"
    " checked"
).split()
SMALL = HostPlan(bits=(BITS,), repeats=1, gamma=4, meters=6, processes=2, ciphertexts=3000)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def made() -> list[HostRecord]:
    return run_host(SMALL, quiet)


def stages(made: list[HostRecord], what: str) -> dict[str, HostRecord]:
    return {one["stage"]: one for one in made if one["what"] == what}


def test_every_piece_of_work_gives_checked_records(made: list[HostRecord]) -> None:
    assert [what for what in RUNS if stages(made, what)] == list(RUNS)
    for one in made:
        assert list(one) == KEYS and one["checked"] and one["bits"] == BITS
        assert one["value"] > 0 and one["unit"] in ("us", "ms", "MB")
        if one["baseline_value"] is not None:
            assert one["baseline"] and one["ratio"] == one["baseline_value"] / one["value"]


def test_rows_have_all_levels_and_plain_encryption_beside(made: list[HostRecord]) -> None:
    rows = [one for one in made if one["what"] == "rows"]
    plain = [one for one in rows if (one["baseline"] or "").startswith("g^b r^n")]
    assert [one["level"] for one in plain] == ["short", "half", "full"]
    assert len({one["baseline_value"] for one in plain}) == 1

    def faster() -> bool:
        again = run_host(replace(SMALL, what=("rows",)), quiet)
        beside = [one for one in again if (one["baseline"] or "").startswith("g^b r^n")]
        return all((one["ratio"] or 0) > 1 for one in beside)

    assert undisturbed(faster)


def test_a_period_is_taken_from_the_pool(made: list[HostRecord]) -> None:
    period = stages(made, "period")
    payloads = period["pool to payloads"]
    assert (payloads["gamma"], payloads["meters"]) == (4, 6)

    def sealing_takes_time() -> bool:
        again = stages(run_host(replace(SMALL, what=("period",)), quiet), "period")
        return again["pool to payloads"]["value"] < again["pool to sealed frames"]["value"]

    assert undisturbed(sealing_takes_time)
    assert not any("paper" in (one["baseline"] or "") for one in period.values())  # another size


def test_the_product_runs_on_every_engine(made: list[HostRecord]) -> None:
    product = stages(made, "product")
    engines = ["1 process", "2 processes"]
    try:
        import distributed  # noqa: F401
    except ImportError:
        pass
    else:
        engines.append("Dask")
    for engine, processes in zip(engines, (1, 2, 2), strict=False):
        assert product[f"{engine}, a ciphertext"]["processes"] == processes
    assert 5 < product["2 processes, resident memory of each"]["value"] < 200


def test_a_wrong_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decrypt_module, "encrypt_textbook", lambda public, m: mpz(1) + public.n)
    plan = HostPlan(bits=(BITS,), what=("decrypt",), repeats=1)
    assert not any(one["checked"] for one in run_host(plan, quiet))
    monkeypatch.undo()
    monkeypatch.setattr(PrivateKey, "decrypt", lambda *_: mpz(7))
    assert not any(one["checked"] for one in run_host(plan, quiet))


def test_one_decryption_finds_one_wrong_ciphertext_in_many() -> None:
    key = generate(256, insecure_test_key=True)
    plain = [0, 1, 0, 5, 0]
    made = [encrypt_textbook(key.public, m) for m in plain]
    assert opens_to(key, made, plain)
    for at in range(len(plain)):
        assert not opens_to(key, made, [m + (place == at) for place, m in enumerate(plain)])


def test_ways_take_turns() -> None:
    order: list[str] = []
    ticks = iter(range(0, 100, 2))
    a, b = Way(lambda: order.append("a"), 2), Way(lambda: order.append("b"))
    race(3, a, b, clock=lambda: next(ticks))
    assert order == ["a", "b"] * 3
    assert a.us == 1e6 and b.us == 2e6 and len(a.results) == 3


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"what": "rows", "level": "short", "baseline": "phe 1.5.0", "value": 1}, [True]),
        ({"what": "rows", "level": "short", "baseline": "phe 1.5.0", "value": 2}, [False]),
        ({"what": "rows", "level": "half", "baseline": "phe 1.5.0", "value": 1}, []),
        ({"what": "rows", "level": "short", "baseline": "sf-heu", "value": 1}, []),
        ({"what": "product", "stage": "one core, a ciphertext", "value": 90}, [False]),
        ({"what": "product", "stage": "2 processes, x", "value": 59, "unit": "MB"}, [True]),
        ({"what": "rows", "level": "short", "baseline": "phe", "value": 1, "bits": 3072}, []),
    ],
)
def test_promises(more: dict[str, Any], kept: list[bool]) -> None:
    base = {"stage": "", "bits": 2048, "unit": "us", "checked": True, "baseline": "b"}
    one = record(**{**base, "baseline_value": 60.0, **more})
    assert [met for _, met in promised(one)] == kept


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: list[HostRecord]
) -> None:
    small = ("--bits", str(BITS), "--repeats", "1", "--gamma", "4")
    assert cli.main(["bench", "host", *small, "--what", "decrypt,dealer", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [one["what"] for one in records if one["stage"] != "by CRT"] == ["dealer"]
    assert all(list(one) == KEYS for one in records)
    assert cli.main(["bench", "host", *small, "--what", "decrypt"]) == 0
    assert "by CRT" in capsys.readouterr().out
    assert cli.main(["bench", "host", *small, "--what", "astrology"]) == 2
    assert cli.main(["bench", "host", *small, "--processes", "0"]) == 2
    wrong: list[HostRecord] = [{**made[0], "checked": False}]
    monkeypatch.setattr("wattveil.bench.command.run_host", lambda *_: wrong)
    assert cli.main(["bench", "host", *small]) == 1
    assert " NO" in capsys.readouterr().out
    assert show_host([]) == []
