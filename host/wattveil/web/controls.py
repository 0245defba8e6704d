"""What the page's buttons ask for: checked here, done by the demo at its next turn."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from wattveil.demo.forging import KINDS
from wattveil.demo.live import PERIODS, Command, parts
from wattveil.demo.plan import DemoOptions, make_plan
from wattveil.privacy.ledger import Limits

BODY = 4096  # bytes of a form
MOST = {"serial": 50, "mqtt": 50, "memory": 500}  # meters, by link: processes are dear
DIGITS = 12  # of a number in a form
DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
Post = Callable[[Command], None]


class Controls:
    """Turns forms into commands. options: of the fleet that runs, kept up to date here."""

    def __init__(self, post: Post, options: DemoOptions, token: str) -> None:
        self._post, self._options, self._token = post, options, token.encode()
        self.parts = parts(options.link)

    def check_token(self, request: Request) -> None:
        """403 unless the request has the token, compared in constant time."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not hmac.compare_digest(given.encode(), self._token):
            raise HTTPException(403, "read-only: open the page by the link in the terminal")

    def settings(self, form: Mapping[str, str]) -> str:
        """A new fleet; ValueError says what cannot be."""
        most = MOST[self._options.link]
        meters = _whole(form, "meters", 2, most)
        budget = form.get("budget", "").strip() and _decimal(form, "budget")
        if budget:
            Limits.parse({"day": budget})
        options = replace(
            self._options,
            meters=meters,
            suite=form.get("suite", ""),
            noise=None,
            gamma=_whole(form, "gamma", 1, 255),
            epsilon=_decimal(form, "epsilon"),
        )
        make_plan(options, PERIODS)
        self._options = options
        self._post(Command("settings", options=options, budget=budget))
        return f"a new fleet of {meters} is being made"

    def fault(self, do: str, form: Mapping[str, str]) -> str:
        """Unplug or plug a meter, watch it, forge a frame, kill a part; ValueError."""
        if do == "kill":
            role = form.get("role", "")
            if role not in self.parts:
                raise ValueError(f"role: one of {', '.join(self.parts)}")
            self._post(Command("kill", name=role))
            return f"asked: kill the {role}"
        number = _whole(form, "meter", 1, 10**6)
        kind = form.get("kind", "") if do == "forge" else ""
        if do == "forge" and kind not in KINDS:
            raise ValueError(f"kind: one of {', '.join(KINDS)}")
        self._post(Command(do, number=number, name=kind))
        return f"asked: {do} {kind} meter {number}".replace("  ", " ")


def _whole(form: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = form.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise ValueError(f"{name}: {text[:DIGITS]!r} is not a whole number")
    if not least <= int(text) <= most:
        raise ValueError(f"{name}: {least} to {most}")
    return int(text)


def _decimal(form: Mapping[str, str], name: str) -> str:
    """Digits and at most one point: "1e999999999" would keep the server busy for hours."""
    text = form.get(name, "").strip()
    if len(text) > DIGITS or not DECIMAL.fullmatch(text):
        raise ValueError(f"{name}: {text[:DIGITS]!r} is not a decimal number above 0, like 0.5")
    return text


async def read_form(request: Request) -> dict[str, str]:
    """An urlencoded form of at most BODY bytes; HTTPException."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY:
            raise HTTPException(413, "the form is too large")
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=20))
    except ValueError:
        raise HTTPException(400, "not a form") from None


def routes(controls: Controls) -> APIRouter:
    """POST /do/NAME: 403 without the token, 422 with a sentence for what cannot be."""
    router = APIRouter()

    @router.post("/do/{name}", response_class=HTMLResponse)
    async def do(name: str, request: Request) -> HTMLResponse:
        controls.check_token(request)
        form = await read_form(request)
        try:
            if name == "hello":
                said = ""
            elif name == "settings":
                said = controls.settings(form)
            elif name in ("unplug", "plug", "watch", "forge", "kill"):
                said = controls.fault(name, form)
            else:
                raise HTTPException(404, "no such control")
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return HTMLResponse(escape(said))

    return router


def escape(text: str) -> str:
    """Text as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
