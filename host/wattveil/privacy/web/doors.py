"""What API and pages share: the gateway behind a few threads, who asks, and what is counted."""

from __future__ import annotations

import asyncio
import hmac
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from prometheus_client import CollectorRegistry, Counter

from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State
from wattveil.privacy.vault import exports
from wattveil.privacy.web.access import Grant, Grants, Rate

THREADS = 4  # answers computed at once: bounds memory
T = TypeVar("T")


@dataclass(frozen=True)
class Rates:
    """(burst, per second)."""

    login: tuple[float, float] = (10, 1 / 6)  # of one address
    logins: tuple[float, float] = (100, 2)  # of all: each failure is an entry of the log
    address: tuple[float, float] = (200, 20)
    person: tuple[float, float] = (60, 2)


class Doors:
    """The gateway as the doors use it. make: a gateway for one thread."""

    def __init__(
        self,
        state: State,
        make: Callable[[State], Gateway] | None = None,
        *,
        tls: bool = False,
        rates: Rates | None = None,
    ) -> None:
        rates = rates or Rates()
        self.state, self.tls = state, tls
        self.sessions = Grants(life_s=8 * 3600, idle_s=900)
        self.tokens = Grants(life_s=600, idle_s=600)
        self._login, self._logins = Rate(*rates.login), Rate(*rates.logins)
        self.address, self._person = Rate(*rates.address), Rate(*rates.person)
        self._make = make or _gateway
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")
        self.registry = CollectorRegistry()
        self.requests = Counter("wattveil_gateway_requests", "HTTP requests by route and status",
                                ["route", "status"], registry=self.registry)  # fmt: skip
        self.refusals = Counter("wattveil_gateway_refusals", "refusals by reason",
                                ["reason"], registry=self.registry)  # fmt: skip

    async def call(self, operation: Callable[[Gateway], T]) -> T:
        """Run an operation on a gateway, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, operation)

    def _run(self, operation: Callable[[Gateway], T]) -> T:
        gateway: Gateway | None = getattr(self._local, "gateway", None)
        if gateway is None:
            gateway = self._local.gateway = self._make(self.state)
        try:
            return operation(gateway)
        except Refused as no:
            self.refusals.labels(no.reason).inc()
            raise

    async def asked(self, grant: Grant, operation: Callable[[Gateway, Person], T]) -> T:
        """Run an operation for whoever holds the grant, unless it was withdrawn. Refused."""
        slowed(self._person, str(grant.person))

        def checked(gateway: Gateway) -> T:
            grant.check(self.state)
            return operation(gateway, grant.person)

        return await self.call(checked)

    async def log_in(self, request: Request, who: str, secret: str) -> Person:
        """Whoever proves to be `who`; Refused, HTTPException 429."""
        slowed(self._login, address(request))
        slowed(self._logins, "")

        def prove(gateway: Gateway) -> Person:
            try:
                return gateway.authenticate(who[:100], secret[:256].strip())
            except ValueError:  # no ROLE:NAME: the same answer as for a wrong key
                gateway.note("refusal", {"action": "authenticate", "reason": "not_authenticated"})
                raise Refused("not_authenticated") from None

        return await self.call(prove)

    @property
    def cookie(self) -> str:
        """The session cookie's name; with TLS bound to this host by the browser."""
        return "__Host-wattveil" if self.tls else "wattveil"

    def session(self, request: Request) -> Grant | None:
        """The session a page request belongs to."""
        return self.sessions.find(request.cookies.get(self.cookie, ""))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


def _gateway(state: State) -> Gateway:
    return Gateway(state, vault=state.vault())


def slowed(rate: Rate, key: str) -> None:
    """HTTPException 429 when somebody knocks too often."""
    wait = rate.wait(key)
    if wait:
        seconds = str(math.ceil(wait))
        raise HTTPException(429, f"too often: wait {seconds} s", {"Retry-After": seconds})


def address(request: Request) -> str:
    """Where a request comes from, as the connection has it: no header is believed."""
    return request.client.host if request.client else ""


def same_site(request: Request) -> None:
    """403 for a form that another site sent."""
    fetch, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if fetch is not None:  # Origin is "null" then: our pages have Referrer-Policy no-referrer
        good = fetch in ("same-origin", "none")
    else:
        good = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not good:
        raise HTTPException(403, "this form came from another site")


def check_csrf(grant: Grant, form: dict[str, str]) -> None:
    """403 unless the form was made for this session."""
    if not hmac.compare_digest(form.get("csrf", "").encode(), grant.csrf.encode()):
        raise HTTPException(403, "the form is not of this session: load the page again")


def own_meter(gateway: Gateway, person: Person) -> str:
    """The id of a customer's own meter, by the ledger's name of it; Refused("no_data")."""
    if person.subject is None:
        raise Refused("own_data_only", "only customers have data of their own")
    meters = list(gateway.state.vault().identities.meters())
    names = dict(zip(gateway.accountant.subjects(meters), meters, strict=True))
    if person.subject not in names:
        raise Refused("no_data")
    return names[person.subject]


def own_data(gateway: Gateway, person: Person) -> tuple[str, Json]:
    """A customer's own readings as Green Button XML; Refused."""
    meter = own_meter(gateway, person)
    return exports.export_greenbutton(gateway, person, meter, "own-data")
