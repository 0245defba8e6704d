"""The JSON API: OAuth 2 client credentials (RFC 6749 section 4.4), then the gateway's operations.

A query that is refused is an answer (200, `refused`); elsewhere a refusal is a 403.
"""

import base64
import binascii
from typing import Annotated, Literal
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2
from pydantic import BaseModel, ConfigDict, Field

from wattveil.privacy import approvals, compliance, desk, techniques
from wattveil.privacy.config import Config
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.log.verify import proof, verify
from wattveil.privacy.people import Person
from wattveil.privacy.query import ask as asking
from wattveil.privacy.refusals import REASONS, Refused
from wattveil.privacy.web.access import Grant
from wattveil.privacy.web.doors import Doors, own_data
from wattveil.web.controls import read_form

ENTRIES = 500  # of the log in one answer
AMOUNT = r"^([0-9]{1,12}(\.[0-9]{1,12})?(e-[0-9]{1,2})?|[0-9]{1,12}/[0-9]{1,12})$"
SCHEME = OAuth2(
    flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl="/oauth/token")),
    auto_error=False,
    description="client_id: ROLE:NAME; client_secret: the token of that person's key file",
)
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["client_credentials"]},
                        "client_id": {"type": "string", "description": "ROLE:NAME"},
                        "client_secret": {"type": "string", "format": "password"},
                    },
                }
            }
        },
    }
}
Amount = Annotated[str, Field(pattern=AMOUNT)]
Text = Annotated[str, Field(max_length=100)]


class Ask(BaseModel):
    """A query. start, end: ISO 8601 with an offset, or dates (UTC midnight); Wh, seconds."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal[asking.KINDS]  # type: ignore[valid-type]
    start: Text
    end: Text
    purpose: Text
    technique: Text = "dp"
    segment: Annotated[dict[Text, Text], Field(max_length=8)] = {}
    epsilon: Amount | None = None
    delta: Amount | None = None
    clip: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    resolution: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    quantile: Amount = "0.5"
    bins: Annotated[str, Field(max_length=4000, pattern=r"^[0-9]+(,[0-9]+)*$")] | None = None
    above: Annotated[int, Field(ge=0, le=10**12)] | None = None
    consistent: bool = False
    preview: bool = False


class Limit(BaseModel):
    """A limit of epsilon, exactly, or "none"."""

    model_config = ConfigDict(extra="forbid")
    limit: Amount | Literal["none"]


class Consent(BaseModel):
    """A consent, or its revocation."""

    model_config = ConfigDict(extra="forbid")
    purpose: Text
    recipient: Text = "*"
    granted: bool


def routes(doors: Doors) -> APIRouter:
    """All of the API."""
    router = APIRouter(tags=["gateway"])

    async def bearer(
        request: Request, authorization: Annotated[str | None, Depends(SCHEME)]
    ) -> Grant:
        scheme, _, token = (authorization or "").partition(" ")
        grant = doors.tokens.find(token) if scheme.lower() == "bearer" else None
        if grant is None:
            raise HTTPException(401, "a token of /oauth/token", {"WWW-Authenticate": "Bearer"})
        return grant

    Who = Annotated[Grant, Depends(bearer)]
    Number = Annotated[int, Path(ge=0, lt=2**53)]

    @router.post("/oauth/token", openapi_extra=FORM)
    async def token(request: Request) -> JSONResponse:
        """Client credentials, in the form or as HTTP Basic, for a bearer token."""
        form = await read_form(request)
        if form.get("grant_type") != "client_credentials":
            known = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
            return JSONResponse({"error": known}, 400)
        who, secret = _credentials(request.headers.get("authorization"), form)
        try:
            person = await doors.log_in(request, who, secret)
        except Refused:
            return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
        return JSONResponse({
            "access_token": doors.tokens.issue(person), "token_type": "Bearer",
            "expires_in": int(doors.tokens.life_s),
        })  # fmt: skip

    @router.post("/api/v1/query")
    async def query(ask: Ask, who: Who) -> Json:
        """An answer with its band, or with `preview` the error to expect, which costs nothing."""
        return await doors.asked(
            who,
            lambda gateway, person: gateway.query(
                person, query_of(gateway.state.config, ask), preview=ask.preview
            ),
        )

    @router.get("/api/v1/techniques")
    async def known(who: Who) -> Json:
        """Techniques and documented refusals."""
        return {"techniques": techniques.names(), "refusals": REASONS}

    @router.get("/api/v1/budgets")
    async def budgets(who: Who) -> Json:
        """Accounts that this person may see: limit, spent, remaining."""
        return await doors.asked(who, desk.budgets)

    @router.put("/api/v1/budgets/{account}")
    async def set_budget(
        account: Annotated[str, Path(max_length=100)], body: Limit, who: Who
    ) -> Json:
        """Lower a limit now, or ask for a higher one, which a second person approves."""
        return await doors.asked(
            who, lambda gateway, person: approvals.set_budget(gateway, person, account, body.limit)
        )

    @router.get("/api/v1/alarms")
    async def alarms(who: Who) -> Json:
        """Repeated and differencing queries."""
        return await doors.asked(who, desk.alarms)

    @router.post("/api/v1/alarms/{number}/seen")
    async def see_alarm(number: Number, who: Who) -> Json:
        """Enter that an alarm was seen."""
        return await doors.asked(
            who, lambda gateway, person: desk.see_alarm(gateway, person, number)
        )

    @router.get("/api/v1/approvals")
    async def waiting(who: Who) -> Json:
        """What waits for a second person."""
        return await doors.asked(who, desk.waiting)

    @router.post("/api/v1/approvals/{number}")
    async def approve(number: Number, who: Who) -> Json:
        """Approve what somebody else asked for."""
        return await doors.asked(
            who, lambda gateway, person: approvals.approve(gateway, person, number)
        )

    @router.get("/api/v1/log")
    async def log(
        who: Who,
        start: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=ENTRIES)] = 100,
    ) -> Json:
        """Entries as they were hashed, and the newest signed head."""
        return await doors.asked(
            who, lambda gateway, person: entries(gateway, person, start, limit)
        )

    @router.get("/api/v1/log/verify")
    async def verdict(who: Who) -> Json:
        """Whether the log is what was signed and witnessed."""
        return await doors.asked(who, verified)

    @router.get("/api/v1/log/{index}/proof")
    async def evidence(
        index: Number, who: Who, since: Annotated[int | None, Query(ge=1, lt=2**53)] = None
    ) -> Json:
        """Inclusion, and with `since` consistency; tools/verify_log.py checks it."""

        def proved(gateway: Gateway, person: Person) -> Json:
            gateway.permit(person, "log-verify", {}, {})
            return proof(gateway.state.log(), index, since)

        return await doors.asked(who, proved)

    @router.get("/api/v1/reports/compliance")
    async def report(who: Who) -> Json:
        """Principle by principle, rule by rule."""
        return await doors.asked(who, compliance.compliance)

    @router.get("/api/v1/own/report")
    async def own_report(who: Who) -> Json:
        """Which of a customer's own data went into which output."""
        return await doors.asked(who, own)

    @router.get("/api/v1/own/consents")
    async def own_consents(who: Who) -> Json:
        """A customer's own consents, oldest first."""
        return {
            "consents": await doors.asked(who, lambda g, p: desk.consents(g, p, p.subject or ""))
        }

    @router.post("/api/v1/own/consents")
    async def consent(body: Consent, who: Who) -> Json:
        """Consent to a secondary use, or revoke it."""
        return await doors.asked(
            who,
            lambda gateway, person: desk.set_consent(
                gateway, person, person.subject or "", body.purpose, body.recipient, body.granted
            ),
        )

    @router.get(
        "/api/v1/own/greenbutton.xml",
        response_class=Response,
        responses={200: {"content": {"application/atom+xml": {}}}},
    )
    async def greenbutton(who: Who) -> Response:
        """A customer's own readings as Green Button XML."""
        xml, _ = await doors.asked(who, own_data)
        return Response(xml, media_type="application/atom+xml")

    return router


def query_of(config: Config, ask: Ask) -> asking.Query:
    """The gateway's query; ValueError."""
    return asking.make(
        config,
        ask.kind,
        ask.start,
        ask.end,
        ask.purpose,
        technique=ask.technique,
        segment=[f"{key}={value}" for key, value in ask.segment.items()],
        epsilon=ask.epsilon,
        delta=ask.delta,
        clip=ask.clip,
        resolution=ask.resolution,
        at=ask.quantile,
        edges=ask.bins,
        above=ask.above,
        consistent=ask.consistent,
    )


def entries(gateway: Gateway, person: Person, start: int, limit: int) -> Json:
    """Part of the log; Refused."""
    gateway.permit(person, "log-verify", {}, {})
    log = gateway.state.log()
    head = log.head()
    found = [
        {"index": index, "leaf": leaf} for index, leaf in log.leaves(start, min(limit, ENTRIES))
    ]
    return {"entries": found, "head": head and head.fields()}


def verified(gateway: Gateway, person: Person) -> Json:
    """`log verify`; Refused."""
    gateway.permit(person, "log-verify", {}, {})
    return verify(gateway.state.gateway(), gateway.state.path / "witness").fields()


def own(gateway: Gateway, person: Person) -> Json:
    """A customer's own report; Refused."""
    return compliance.customer(gateway, person, person.subject or "", "own-data")


def _credentials(header: str | None, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from HTTP Basic (each form-encoded, RFC 6749 section 2.3.1) or form."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return unquote_plus(name), unquote_plus(secret)
    return form.get("client_id", ""), form.get("client_secret", "")
