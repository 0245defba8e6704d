"""What leaves the vault for one customer or one officer: through the gateway, like all else."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator

import numpy as np

from wattveil.privacy import approvals
from wattveil.privacy.consent import holds
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.greenbutton import to_xml
from wattveil.privacy.vault.rotate import relink
from wattveil.privacy.vault.seal import ABSENT, DAY_S
from wattveil.privacy.vault.vault import Vault, as_bytes


def export_greenbutton(
    gateway: Gateway,
    person: Person,
    meter: str,
    purpose: str,
    start: int | None = None,
    end: int | None = None,
) -> tuple[str, Json]:
    """One customer's readings as Green Button XML, and what the log has of it. Refused.

    [start, end) in UTC s; all there is by default. Consent of that customer counts for a purpose
    that needs it.
    """
    vault = gateway.state.vault()
    (subject,) = gateway.accountant.subjects([meter])
    context = {
        "purpose": purpose,
        "technique": "raw",
        "resolution_s": vault.interval_s,
        "consent": holds(gateway.state, subject, purpose, str(person)),
    }
    gateway.permit(person, "export", {"subject": subject}, context)
    readings = list(readings_of(vault, meter, start or 0, end or 1 << 40))
    if not readings:  # only who may see the meter learns whether it is here
        raise Refused("no_data")
    name = hmac.digest(gateway.state.key("exports"), meter.encode(), "sha256")
    xml = to_xml(readings, vault.interval_s, name, int(time.time()))
    body = {
        "person": person.logged,
        "action": "export",
        "format": "green button",
        "purpose": purpose,
        "subject": gateway.accountant.logged(subject),
        "readings": len(readings),
        "start": readings[0][0],
        "end": readings[-1][0] + vault.interval_s,
    }
    index = gateway.note("release", body)
    return xml, {"readings": len(readings), "log_index": index, "refused": None}


def readings_of(vault: Vault, meter: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """All of a meter's readings in [start, end), over all epochs: (start, Wh)."""
    days = vault.catalogue.days(start // DAY_S, -(-end // DAY_S))
    if not days:
        return
    first, last = days[0][0], days[-1][0] + 1
    epochs = vault.catalogue.epochs()
    ends = [day for _, day in epochs[1:]] + [last]
    names = vault.pseudonyms_of(meter)
    for (epoch, begins), stops in zip(epochs, ends, strict=True):
        a, b = max(first, begins), min(last, stops)
        if epoch not in names or a >= b:
            continue
        wh = vault.days([as_bytes(names[epoch])], epoch, a, b)[0]
        for at in np.flatnonzero(wh != ABSENT).tolist():
            moment = a * DAY_S + at * vault.interval_s
            if start <= moment < end:
                yield moment, int(wh[at])


def ask_relink(gateway: Gateway, person: Person, pseudonym: str, epoch: int) -> Json:
    """Ask for a pseudonym's counterpart in another epoch; what a second role approves. Refused."""
    as_bytes(pseudonym)
    number = approvals.request(gateway, person, "relink", {"pseudonym": pseudonym, "epoch": epoch})
    return {"approval": number, "pseudonym": None, "refused": None}


def do_relink(gateway: Gateway, person: Person, pseudonym: str, epoch: int, number: int) -> Json:
    """Carry out what was asked for and approved, once. Refused, ValueError."""
    gateway.permit(person, "relink", {}, {"carry_out": True, "approved": True})
    body = {"pseudonym": pseudonym, "epoch": epoch}
    approvals.use(gateway, number, "relink", body)
    other = relink(gateway.state.vault(), pseudonym, epoch)
    index = gateway.note("key", {"event": "relinked", "person": person.logged, "id": number,
                                 "epoch": epoch})  # fmt: skip
    return {"approval": number, "pseudonym": other, "log_index": index, "refused": None}
