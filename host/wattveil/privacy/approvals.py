"""What takes two persons: one asks, another approves, and it is carried out once."""

from __future__ import annotations

import json
import time
from typing import Any

from wattveil.privacy.accountant import check_account, parse_limit
from wattveil.privacy.config import show
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused

Json = dict[str, Any]
WAIT_S = 7 * 86_400  # a request that nobody approved is void after a week


def request(gateway: Gateway, person: Person, action: str, body: Json) -> int:
    """Ask for an action that takes two; the id of what a second person may approve. Refused."""
    gateway.permit(person, action, {}, {"carry_out": False, "approved": False})
    with gateway.state.transaction() as db:
        row = db.execute(
            "INSERT INTO approvals(action, body, asked_by, asked_at) VALUES(?,?,?,?)",
            (action, _text(body), str(person), int(time.time())),
        )
        number = int(row.lastrowid or 0)
        gateway.note("approval", {"event": "asked", "id": number, "action": action,
                                  "person": person.logged})  # fmt: skip
    return number


def approve(gateway: Gateway, person: Person, number: int) -> Json:
    """Approve what somebody else asked for; the request. A larger budget is set at once. Refused."""
    db = gateway.state.gateway()
    found = db.execute(
        "SELECT action, body, asked_by FROM approvals WHERE id=? AND approved_by IS NULL "
        "AND asked_at>?",
        (number, int(time.time()) - WAIT_S),
    ).fetchone()
    if found is None:
        raise Refused("approval_unknown", f"number {number}")
    action, text, asked_by = found
    role, _, name = asked_by.partition(":")
    resource = {"asked_action": action, "asked_by_role": role, "asked_by_name": name}
    gateway.permit(person, "approve", resource, {})
    body: Json = json.loads(text)
    with gateway.state.transaction() as db:
        done = db.execute(
            "UPDATE approvals SET approved_by=?, approved_at=? WHERE id=? AND approved_by IS NULL",
            (str(person), int(time.time()), number),
        )
        if done.rowcount != 1:
            raise Refused("approval_unknown", f"number {number} was approved just now")
        gateway.note("approval", {"event": "approved", "id": number, "action": action,
                                  "person": person.logged})  # fmt: skip
    if action == "budget-raise":
        use(gateway, number, action, body)
        gateway.accountant.set_limit(body["account"], parse_limit(body["limit"]), raising=True)
        gateway.note("budget", {"account": body["account"], "limit": body["limit"], "id": number})
    return {"id": number, "action": action, "asked_by": asked_by, "body": body, "approved": True}


def use(gateway: Gateway, number: int, action: str, body: Json) -> None:
    """Take an approved request up, once: the same action with the same body. Refused."""
    with gateway.state.transaction() as db:
        done = db.execute(
            "UPDATE approvals SET used_at=? WHERE id=? AND action=? AND body=? "
            "AND approved_by IS NOT NULL AND used_at IS NULL AND approved_at>?",
            (int(time.time()), number, action, _text(body), int(time.time()) - WAIT_S),
        )
        if done.rowcount != 1:
            raise Refused("approval_needed", f"{action} waits for a second person, or is done")
        gateway.note("approval", {"event": "used", "id": number, "action": action})


def waiting(gateway: Gateway) -> list[Json]:
    """What can be approved now."""
    rows = gateway.state.gateway().execute(
        "SELECT id, action, body, asked_by, asked_at FROM approvals WHERE approved_by IS NULL "
        "AND asked_at>? ORDER BY id",
        (int(time.time()) - WAIT_S,),
    )
    names = ("id", "action", "body", "asked_by", "asked_at")
    return [dict(zip(names, row, strict=True)) | {"body": json.loads(row[2])} for row in rows]


def set_budget(gateway: Gateway, person: Person, account: str, limit: str) -> Json:
    """Lower a limit now, or ask for a higher one; what happened. Refused, ValueError."""
    account = check_account(account, gateway.state.config.dataset)
    wanted, held = parse_limit(limit), gateway.accountant.limit(account)
    raised = held is not None and (wanted is None or wanted > held)
    text = "none" if wanted is None else show(wanted)
    result: Json = {
        "account": account,
        "limit": text,
        "was": "none" if held is None else show(held),
    }
    if raised:
        number = request(gateway, person, "budget-raise", {"account": account, "limit": text})
        return result | {"approval": number, "set": False}
    gateway.permit(person, "budget-set", {}, {})
    with gateway.state.transaction():  # no entry for a limit that was not set
        gateway.note("budget", {"account": account, "limit": text, "person": person.logged})
        gateway.accountant.set_limit(account, wanted, raising=False)
    return result | {"approval": None, "set": True}


def _text(body: Json) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))
