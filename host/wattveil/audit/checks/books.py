"""The privacy gateway's books: a small gateway with vault, people and a centre on its ledger, asked questions
of every kind; then ledger, log and answers are held against each other by programs that only read.

Each comparison is made a second time with something taken away or changed, which it must notice.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.privacy import ledger, people
from wattveil.privacy.compliance import compliance
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.ledger import Charge, Ledger, Limits
from wattveil.privacy.log import merkle
from wattveil.privacy.log.verify import proof, verify
from wattveil.privacy.people import Person
from wattveil.privacy.query import ask
from wattveil.privacy.state import State

HOMES, INTERVALS = 20, 8
START, END = "2013-01-14T00:00:00Z", "2013-01-14T04:00:00Z"
PERIODS = 3  # of the centre's
OWNER = "customer:owner"  # of meter 0
Json = dict[str, Any]

ASKED: tuple[Json, ...] = (  # and then again for one half of the homes
    {"kind": "sum", "epsilon": "0.1"},
    {"kind": "curve", "epsilon": "1/3"},
    {"kind": "curve", "epsilon": "0.2", "delta": "1e-6"},
    {"kind": "mean", "epsilon": "0.05", "purpose": "publication"},
    {"kind": "count", "epsilon": "0.05"},
    {"kind": "histogram", "epsilon": "0.1"},
    {"kind": "quantile", "epsilon": "0.3"},
)
REFUSED: tuple[tuple[Json, str], ...] = (
    ({"kind": "sum", "epsilon": "0.9", "segment": ["tariff=none"]}, "group_too_small"),
    ({"kind": "sum", "epsilon": "0.9", "purpose": "gossip"}, "purpose_unknown"),
    ({"kind": "sum", "epsilon": "1", "purpose": "publication"}, "over_public_budget"),
)


@dataclass(frozen=True)
class Books:
    """What is compared. answers: those given, by charge; centre: charges entered beside the gateway's."""

    gateway: Gateway
    folder: Path
    answers: Sequence[Json]
    refusals: Sequence[tuple[Json, str]]
    members: Sequence[frozenset[str]]  # meter ids, by answer
    centre: Sequence[Charge]

    @property
    def state(self) -> State:
        """The gateway's."""
        return self.gateway.state

    def entries(self) -> list[Json]:
        """The log's."""
        return list(self.state.log().entries())


def meter(number: int) -> str:
    """An id that could be nothing else."""
    return f"audited-meter-{number:02}"


@contextmanager
def books() -> Iterator[Books]:
    """A gateway that was asked."""
    with tempfile.TemporaryDirectory(prefix="wattveil-audit-") as folder:
        root = Path(folder)
        gateway = _gateway(root)
        try:
            yield _asked(gateway, root / "gateway")
        finally:
            gateway.state.close()


def _gateway(root: Path) -> Gateway:
    # SQLCipher and the rest of the extra are needed from here on only.
    from wattveil.privacy.vault.ingest import ingest
    from wattveil.privacy.vault.meters import learn_meters, read_meters
    from wattveil.privacy.vault.vault import Vault

    state = State.create(root / "gateway")
    vault = Vault.create(state)
    at = ask.parse_time(START, "from")
    readings, table, rejects = root / "readings.csv", root / "meters.csv", root / "rejects.csv"
    rows = [
        f"{meter(home)},{ask.stamp(at + 1800 * i)},{100 + 37 * home + i}\n"
        for home in range(HOMES)
        for i in range(INTERVALS)
    ]
    readings.write_text("meter_id,timestamp,wh\n" + "".join(rows))
    kinds = [
        f"{meter(h)},{'flat' if h < HOMES - 2 else 'rare'},north,house,-\n" for h in range(HOMES)
    ]
    table.write_text("meter_id,tariff,region,type,customer\n" + "".join(kinds))
    with rejects.open("wb") as file:
        found, _ = read_meters(table, file)
    learn_meters(vault, found)
    ingest(vault, [readings], rejects)
    return Gateway(state)


def _asked(gateway: Gateway, folder: Path) -> Books:
    from wattveil.privacy.vault.exports import export_greenbutton

    state = gateway.state
    homes = [meter(home) for home in range(HOMES)]
    names = state.subjects().names(homes)
    ann = gateway.authenticate("analyst:ann", people.add(state, "analyst:ann"))
    own = gateway.authenticate(OWNER, people.add(state, OWNER, names[0]))
    export_greenbutton(gateway, own, homes[0], "own-data")
    centre = [
        Charge(f"fleet:{n}", n, Fraction(1, 2), names, b"\x0f\x00\x00", state.subjects().check)
        for n in range(PERIODS)
    ]
    shared = Ledger(state.ledger(), Limits())
    answers, members = [], []
    for n, (question, segment) in enumerate(
        (question, segment) for segment in ([], ["tariff=flat"]) for question in ASKED
    ):
        if n < PERIODS:  # in turn, on one ledger
            shared.debit(centre[n])
        answers.append(_ask(gateway, ann, question | {"segment": segment}))
        members.append(frozenset(homes[: HOMES - 2] if segment else homes))
    refusals = [(_ask(gateway, ann, question), reason) for question, reason in REFUSED]
    return Books(gateway, folder, answers, refusals, members, centre)


def _ask(gateway: Gateway, person: Person, question: Json) -> Json:
    given: Json = {"purpose": "research", "start": START, "end": END, "clip": 2000} | question
    return gateway.query(person, ask.make(gateway.state.config, **given))


# --- what must hold ------------------------------------------------------------------------------


def paid(books: Books, entries: Sequence[Json]) -> int:
    """How many answers have their decision, spend, release and charge, in this order, of these households."""
    charges = {charge.name: charge for charge in ledger.entries(books.state.ledger().load)}
    by_charge: defaultdict[str, dict[str, Json]] = defaultdict(dict)
    for entry in entries:
        if "charge" in entry["body"]:
            by_charge[entry["body"]["charge"]][entry["kind"]] = entry
    decisions = [entry["index"] for entry in entries if entry["kind"] == "decision"]
    good = 0
    for answer, members in zip(books.answers, books.members, strict=True):
        index = answer["log_index"]
        body: Json = next((e["body"] for e in entries if e["index"] == index), {})
        charge = charges.get(body.get("charge", ""))
        spend = by_charge[body.get("charge", "")].get("spend")
        if answer["refused"] or charge is None or spend is None or not decisions:
            continue
        price = Fraction(body["epsilon"])
        good += (
            price == charge.epsilon == Fraction(spend["body"]["epsilon"])
            and price == Fraction(answer["epsilon"]).limit_denominator(10**6)
            and sorted(charge.subjects()) == sorted(books.state.subjects().names(members))
            and min(decisions) < spend["index"] < index
        )
    return good


def sums_differ(books: Books, entries: Sequence[Json]) -> list[str]:
    """Households whose sum in the ledger is not what log and centre say; and the data set's."""
    charges = {charge.name: charge for charge in ledger.entries(books.state.ledger().load)}
    sums: defaultdict[str, Fraction] = defaultdict(Fraction)
    total = Fraction(0)
    for charge in books.centre:
        for subject in charge.subjects():
            sums[subject] += charge.epsilon
    for entry in entries:
        if entry["kind"] == "spend":
            epsilon, named = Fraction(entry["body"]["epsilon"]), charges[entry["body"]["charge"]]
            total += epsilon
            for subject in named.subjects():
                sums[subject] += epsilon
    held = ledger.spending(books.state.ledger().load)
    table = books.gateway.accountant.table()[f"dataset:{books.state.config.dataset}"]
    wrong = [name for name in sums.keys() | held.keys() if sums[name] != held.get(name)]
    wrong += [] if Fraction(table["spent"]) == total else ["the data set"]
    return wrong + books.gateway.accountant.audit()


def proofs(books: Books) -> tuple[int, int]:
    """(proofs that hold, proofs): every entry in the newest tree, and every earlier head before it."""
    log = books.state.log()
    head = log.head()
    if head is None:
        return 0, 1
    done = [
        merkle.included(
            merkle.leaf_hash(log.leaf(n).encode()), n, head.size,
            [bytes.fromhex(step) for step in proof(log, n)["path"]], head.root,
        )
        for n in range(head.size)
    ]  # fmt: skip
    done += [
        merkle.consistent(
            old.size, head.size, merkle.consistency(log.node, old.size, head.size), old.root, head.root
        )
        for old in log.heads()
    ]  # fmt: skip
    return sum(done), len(done)


def tampered(books: Books) -> tuple[int, int]:
    """(seen, tried): copies of the log with an entry taken out, changed, or cut off at the end."""
    size = books.state.log().size
    changes = (
        f"DELETE FROM log_leaves WHERE idx={size // 2}",
        f"UPDATE log_leaves SET leaf=replace(leaf, '\"at\":1', '\"at\":2') WHERE idx={size // 2}",
        f"DELETE FROM log_leaves WHERE idx={size - 1}",
    )
    seen = 0
    for n, change in enumerate(changes):
        copy = books.folder.parent / f"copy{n}.db"
        with closing(sqlite3.connect(copy, isolation_level=None)) as db:
            books.state.gateway().backup(db)
            for verb in ("update", "delete"):
                db.execute(f"DROP TRIGGER log_leaves_{verb}")
            db.execute(change)
            seen += not verify(db, books.folder / "witness").consistent
    return seen, len(changes)


def named(books: Books) -> tuple[int, bool]:
    """Meter ids in the bytes of ledger and log, and the ledger's names in the log; whether a customer is in
    the log at all, under its own name for one."""
    stores = [p for p in books.folder.iterdir() if p.name.startswith(("ledger.db", "gateway.db"))]
    ids = [meter(home) for home in range(HOMES)]
    log = "\n".join(leaf for _, leaf in books.state.log().leaves())
    names = books.state.subjects().names(ids)
    found = sum(name.encode() in store.read_bytes() for store in stores for name in ids)
    alias = books.state.subjects().logged(names[0])
    return found + sum(name[:16] in log for name in names), f"customer:{alias}" in log


def run(study: Study) -> Sequence[Finding]:
    """All comparisons of one gateway's books."""
    with books() as held:
        return list(_findings(held))


def _findings(held: Books) -> Iterator[Finding]:
    entries, whole = held.entries(), len(held.answers)
    spends = [entry for entry in entries if entry["kind"] == "spend"]
    good = paid(held, entries)
    less = paid(held, [entry for entry in entries if entry is not (spends or entries)[-1]])
    how = f"{whole} answers about {HOMES} homes of a vault, {PERIODS} periods of a centre between them"
    yield Finding(
        claim="every answer has its decision, its spend and its charge to each of its households",
        method=f"{how}; without one spend in the log {less} are found",
        claimed=f"all {whole}",
        measured=f"{good}",
        verdict=verdict(good == whole, less < good or good < whole),
    )
    wrong = sums_differ(held, entries)
    missing = sums_differ(
        held, [entry for entry in entries if entry is not (spends or entries)[-1]]
    )
    yield Finding(
        claim="the ledger's sums are those of log and centre, for the data set and each household",
        method=f"exact rationals; without one spend in the log {len(missing)} sums differ",
        claimed="none differs",
        measured=f"{len(wrong)} differ",
        verdict=verdict(not wrong and len(spends) == whole, bool(missing) or not spends),
    )
    free = sum(
        answer["refused"] == reason and not answer["values"] for answer, reason in held.refusals
    )
    yield Finding(
        claim="what is refused is answered nothing and costs nothing",
        method="a group too small, a purpose nobody knows, a budget that is used up; sums as above",
        claimed=f"all {len(held.refusals)}",
        measured=f"{free}",
        verdict=verdict(free == len(held.refusals)),
    )
    state = verify(held.state.gateway(), held.folder / "witness")
    (right, of), (seen, tried) = proofs(held), tampered(held)
    yield Finding(
        claim="the log is what was signed and witnessed, and proves each entry and each earlier head",
        method=f"RFC 6962; {state.entries} entries, {state.heads} heads; {seen} of {tried} changed copies "
        "are noticed",
        claimed=f"consistent, {of} proofs",
        measured=f"{'consistent' if state.consistent else 'inconsistent'}, {right} hold",
        verdict=verdict(state.consistent and right == of, seen == tried),
    )
    report = compliance(held.gateway)
    yield Finding(
        claim="the compliance report finds nothing",
        method="made from the log, as `wattveil log report compliance` does",
        claimed="0 findings",
        measured="; ".join([f"{report['finding_count']} findings", *report["findings"][:1]]),
        verdict=verdict(report["finding_count"] == 0),
    )
    count, seen_alias = named(held)
    yield Finding(
        claim="no meter id is in the ledger or the log, and the log has other names than the ledger",
        method=f"the bytes of the stores, {HOMES} ids and names",
        claimed="none",
        measured=f"{count}",
        verdict=verdict(count == 0, seen_alias or count > 0),
    )


CHECK = Check(
    "books",
    "The privacy gateway's books",
    "A gateway with a vault, people and a control centre on its ledger is asked questions of every kind. "
    "Then answers, ledger and log are held against each other.",
    run,
    ("missing-spend", "log-gap", "plain-names"),
)
