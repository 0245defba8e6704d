"""The commands of the people who run the gateway: role, consent, approve, budget."""

from __future__ import annotations

import argparse
from pathlib import Path

from wattveil.importers.readings import BadReading, check_meter_id
from wattveil.privacy import approvals, consent, history, people, tighter
from wattveil.privacy.command import add_common, add_person, answering, person_of
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.state import State


def _open(args: argparse.Namespace) -> Gateway:
    return Gateway(State.open(args.state_dir))


def _permitted(gateway: Gateway, args: argparse.Namespace, action: str) -> Person:
    person = person_of(args, gateway)
    gateway.permit(person, action, {}, {})
    return person


def _subject(gateway: Gateway, meter: str) -> str:
    try:
        check_meter_id(meter)
    except BadReading as bad:
        raise ValueError(f"METER: {bad.reason}; {bad.todo}") from None
    return gateway.accountant.subjects([meter])[0]


def role_options(parse: argparse.ArgumentParser) -> None:
    """`wattveil role`."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    add = commands.add_parser("add", help="take a person in and make a key file; again: a new key")
    add.add_argument("person", metavar="ROLE:NAME", help=f"roles: {', '.join(people.ROLES)}")
    add.add_argument("--meter", metavar="ID", help="a customer's own meter")
    add.add_argument("--out", type=Path, metavar="FILE",
                     help="where the key file goes; default: this user's configuration folder")  # fmt: skip
    gone = commands.add_parser("revoke", help="withdraw a person's access")
    gone.add_argument("person", metavar="ROLE:NAME")
    listed = commands.add_parser("list", help="everybody, without secrets")
    for action, run in ((add, _role_add), (gone, _role_revoke), (listed, _role_list)):
        add_person(action, required=False)
        add_common(action)
        action.set_defaults(action=run)


def _role_add(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        by = _permitted(gateway, args, "role")
        subject = _subject(gateway, args.meter) if args.meter else None
        path = args.out or people.key_file_of(gateway.state, args.person)
        with gateway.state.transaction():
            token = people.add(gateway.state, args.person, subject)
            named = people.Person.of(gateway.state, *people.parse(args.person), subject)
            gateway.note("role", {"event": "added", "person": named.logged, "by": by.logged})
            people.write_key_file(path, token)
        return {"person": args.person, "key_file": str(path)}

    return answering(
        args, act, lambda r: f"{r['person']}: key file {r['key_file']}, keep it secret"
    )


def _role_revoke(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        by = _permitted(gateway, args, "role")
        who = "a customer" if args.person.startswith("customer:") else args.person
        with gateway.state.transaction():
            done = people.revoke(gateway.state, args.person)
            if done:
                gateway.note("role", {"event": "revoked", "person": who, "by": by.logged})
        if not done:
            raise ValueError(f"{args.person} has no access to withdraw")
        return {"person": args.person, "revoked": True}

    return answering(args, act, lambda r: f"{r['person']} has no access any more")


def _role_list(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        _permitted(gateway, args, "role")
        return {"people": people.people(gateway.state)}

    return answering(
        args,
        act,
        lambda r: "\n".join(
            f"{p['who']}{'' if p['revoked'] is None else '  revoked'}" for p in r["people"]
        ),
    )


def consent_options(parse: argparse.ArgumentParser) -> None:
    """`wattveil consent`."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    for name, text in (
        ("grant", "allow a secondary use of one meter's data"),
        ("revoke", "forbid it again"),
        ("history", "all entries of one meter, oldest first"),
    ):
        action = commands.add_parser(name, help=text)
        action.add_argument("meter", metavar="METER")
        if name != "history":
            action.add_argument("--purpose", required=True, metavar="P")
            action.add_argument("--recipient", default=consent.ANYBODY, metavar="WHO",
                                help="ROLE:NAME, a role, or * (default): anybody")  # fmt: skip
        add_person(action, required=False)
        add_common(action)
        action.set_defaults(action=_consent, verb=name)


def _consent(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        person = person_of(args, gateway)
        subject = _subject(gateway, args.meter)
        if args.verb == "history":
            return {"meter": args.meter, "consents": consents(gateway, person, subject)}
        granted = args.verb == "grant"
        entry = set_consent(gateway, person, subject, args.purpose, args.recipient, granted)
        return entry | {"meter": args.meter}

    def text(result: Json) -> str:
        if "consents" not in result:
            verb = "granted" if result["granted"] else "revoked"
            return f"{verb}: {result['purpose']} by {result['recipient']}"
        rows = result["consents"]
        return "\n".join(
            f"{r['id']}  {'granted' if r['granted'] else 'revoked'}  {r['purpose']} by "
            f"{r['recipient']}, entered by {r['by']}"
            for r in rows
        ) or "no consent was ever given or revoked"  # fmt: skip

    return answering(args, act, text)


def approve_options(parse: argparse.ArgumentParser) -> None:
    """`wattveil approve`."""
    parse.add_argument("id", type=int, nargs="?", metavar="ID", help="default: show what waits")
    add_person(parse, required=False)
    add_common(parse)
    parse.set_defaults(action=_approve)


def _approve(args: argparse.Namespace) -> int:
    """Approve, as a second person."""
    gateway = _open(args)

    def act() -> Json:
        person = person_of(args, gateway)
        if args.id is None:
            return waiting(gateway, person)
        return approvals.approve(gateway, person, args.id)

    def text(result: Json) -> str:
        if "waiting" in result:
            rows = result["waiting"]
            return (
                "\n".join(
                    f"{r['id']}  {r['action']} {r['body']} asked by {r['asked_by']}" for r in rows
                )
                or "nothing waits"
            )
        return f"approved: {result['action']} {result['body']}"

    return answering(args, act, text)


def budget_options(parse: argparse.ArgumentParser) -> None:
    """`wattveil budget`."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    shown = commands.add_parser("show", help="limit, spent and left, and what composition gives")
    shown.add_argument("account", nargs="?", help="dataset:NAME, public, ROLE:NAME ...")
    shown.add_argument("--dp-delta", default="1e-6", metavar="D", help="of the composed epsilon")
    change = commands.add_parser("set", help="lower a limit; a higher one waits for `approve`")
    change.add_argument("account", help="dataset:NAME, public, ROLE:NAME, subject_lifetime ...")
    change.add_argument("limit", metavar="EPSILON", help="an exact number, or none")
    raised = commands.add_parser("alarms", help="repeated and differencing questions")
    raised.add_argument(
        "--seen", type=int, metavar="ID", help="enter that the officer saw this one"
    )
    for action, run in ((shown, _show), (change, _set), (raised, _alarms)):
        add_person(action, required=False)
        add_common(action)
        action.set_defaults(action=run)


def budgets(
    gateway: Gateway, person: Person, account: str | None = None, delta: float = 1e-6
) -> Json:
    """The accounts that this person may see, and what composition gives. Refused, ValueError."""
    gateway.permit(person, "budget-show", {}, {})
    table = gateway.accountant.table()
    if person.role not in ("privacy-officer", "regulator", "operator"):
        own = (str(person), "public", f"dataset:{gateway.state.config.dataset}")
        table = {name: row for name, row in table.items() if name in own}
    if account is not None:
        if account not in table:
            raise ValueError(f"{account}: no such account, or not yours to see")
        table = {account: table[account]}
    for name, row in table.items():
        row["composed"] = tighter.compose(gateway.accountant.events(name), delta)
    return {"accounts": table, "audit": gateway.accountant.audit()}


def alarms(gateway: Gateway, person: Person) -> Json:
    """Repeated and differencing queries, newest first. Refused."""
    gateway.permit(person, "alarms", {}, {})
    return {"alarms": history.alarms(gateway.state.gateway())}


def see_alarm(gateway: Gateway, person: Person, number: int) -> Json:
    """Enter that an alarm was seen; who saw it first stays. Refused, ValueError."""
    gateway.permit(person, "alarm-seen", {}, {})
    with gateway.state.transaction() as db:
        if history.see(db, number, person.logged):
            gateway.note("alarm-seen", {"id": number, "person": person.logged})
    found = [alarm for alarm in history.alarms(gateway.state.gateway()) if alarm["id"] == number]
    if not found:
        raise ValueError(f"there is no alarm {number}")
    return found[0]


def waiting(gateway: Gateway, person: Person) -> Json:
    """What waits for a second person. Refused."""
    gateway.permit(person, "alarms", {}, {})
    return {"waiting": approvals.waiting(gateway)}


def consents(gateway: Gateway, person: Person, subject: str) -> list[Json]:
    """All consents of a customer and their revocations, oldest first. Refused."""
    gateway.permit(person, "consent", {"subject": subject}, {})
    return consent.history(gateway.state, subject)


def set_consent(
    gateway: Gateway, person: Person, subject: str, purpose: str, recipient: str, granted: bool
) -> Json:
    """Enter a consent or its revocation; the entry. Refused, ValueError."""
    gateway.permit(person, "consent", {"subject": subject}, {})
    with gateway.state.transaction():
        number = consent.record(gateway.state, subject, purpose, recipient, granted, person)
        body: Json = {"id": number, "purpose": purpose, "recipient": recipient}
        index = gateway.note("consent", body | {"granted": granted, "person": person.logged})
    return body | {"granted": granted, "log_index": index}


def _show(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        person = person_of(args, gateway)
        return budgets(gateway, person, args.account, float(args.dp_delta))

    def text(result: Json) -> str:
        lines = []
        for name, row in result["accounts"].items():
            lines.append(f"{name}: spent {row['spent']} of {row['limit'] or 'no limit'}")
            if row["composed"]["answers"]:
                both = row["composed"]
                lines.append(
                    f"  answers: {both['answers']}; at delta {both['delta']:g} they compose to "
                    f"epsilon {_known(both['rdp'])} (RDP), {_known(both['pld'])} (PLD)"
                )
        return "\n".join(lines + [f"WRONG: {line}" for line in result["audit"]])

    return answering(args, act, text)


def _known(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _set(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        return approvals.set_budget(gateway, person_of(args, gateway), args.account, args.limit)

    def text(result: Json) -> str:
        if result["set"]:
            return f"{result['account']}: {result['limit']} (was {result['was']})"
        return (
            f"{result['account']} stays at {result['was']} until somebody else approves: "
            f"`wattveil approve {result['approval']}`"
        )

    return answering(args, act, text)


def _alarms(args: argparse.Namespace) -> int:
    gateway = _open(args)

    def act() -> Json:
        person = person_of(args, gateway)
        if args.seen is not None:
            return {"alarms": [see_alarm(gateway, person, args.seen)]}
        return alarms(gateway, person)

    def text(result: Json) -> str:
        rows = result["alarms"]
        return "\n".join(
            f"{r['id']}  {r['kind']} by {r['person']}: {r['body']}, "
            f"{'seen by ' + r['seen_by'] if r['seen_by'] else 'not seen yet'}"
            for r in rows
        ) or "no alarm"  # fmt: skip

    return answering(args, act, text)


def run(args: argparse.Namespace) -> int:
    """Carry out one of the above; the exit status."""
    status: int = args.action(args)
    return status
