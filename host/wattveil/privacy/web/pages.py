"""The three pages: analyst, privacy officer, customer. Each part asks the policy by itself.

Forms come from htmx and get a piece of a page back. They carry the session's CSRF token; the
session's cookie is HttpOnly and SameSite=Strict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import ValidationError

from wattveil.importers.greenbutton import read_greenbutton
from wattveil.privacy import approvals, compliance, desk, techniques
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.query.ask import KINDS, UNITS, parse_time, stamp
from wattveil.privacy.refusals import Refused
from wattveil.privacy.web import api
from wattveil.privacy.web.access import Grant
from wattveil.privacy.web.doors import Doors, check_csrf, own_data, same_site
from wattveil.web.controls import read_form

HERE = Path(__file__).parent
HOME = {"customer": "/customer", "privacy-officer": "/officer", "regulator": "/officer"}
DAY_S = 86_400
NEWEST = 30  # entries of the log on the officer's page
OPTIONAL = ("epsilon", "delta", "clip", "resolution", "quantile", "bins", "above")


def templates() -> Environment:
    """The pages, on the live page's base; every value is escaped."""
    import wattveil.web

    base = Path(wattveil.web.__file__).parent / "base"
    return Environment(
        loader=FileSystemLoader([HERE / "templates", base]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def report_file(report: Json) -> str:
    """A report as one HTML file that needs nothing else."""
    return templates().get_template("report_file.html").render(report=report)


def routes(doors: Doors) -> APIRouter:
    """All pages."""
    router = APIRouter(default_response_class=HTMLResponse)
    render = templates()

    def page(name: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(render.get_template(name).render(**values))

    def session(request: Request) -> Grant:
        grant = doors.session(request)
        if grant is None:
            raise HTTPException(303, "log in first", {"Location": "/"})
        return grant

    async def form_of(request: Request) -> tuple[Grant, dict[str, str]]:
        same_site(request)
        grant = session(request)
        form = await read_form(request)
        check_csrf(grant, form)
        return grant, form

    async def part(
        request: Request, name: str, act: Callable[[Gateway, Person], Json]
    ) -> Response:
        """A piece of a page with an operation's result, or with why there is none."""
        grant = session(request)
        try:
            result = await doors.asked(grant, act)
        except Refused as no:
            if no.reason == "revoked_person":
                raise
            result = {"refused": no.reason, "because": str(no).partition(": ")[2], "rule": no.rule}
        except ValueError as error:
            result = {"refused": "", "because": str(error), "rule": None}
        return page(name, result=result, csrf=grant.csrf)

    @router.get("/")
    async def index(request: Request) -> Response:
        grant = doors.session(request)
        if grant is not None:
            return RedirectResponse(HOME.get(grant.person.role, "/analyst"), 303)
        return page("login.html", wrong=False)

    @router.post("/login")
    async def login(request: Request) -> Response:
        same_site(request)
        form = await read_form(request)
        try:
            person = await doors.log_in(request, form.get("who", ""), form.get("token", ""))
        except Refused:
            response: Response = page("login.html", wrong=True)
            response.status_code = 401
            return response
        response = RedirectResponse(HOME.get(person.role, "/analyst"), 303)
        response.set_cookie(
            doors.cookie, doors.sessions.issue(person), httponly=True, secure=doors.tls,
            samesite="strict", path="/",
        )  # fmt: skip
        return response

    @router.post("/logout")
    async def logout(request: Request) -> Response:
        await form_of(request)
        doors.sessions.drop(request.cookies.get(doors.cookie, ""))
        response = RedirectResponse("/", 303)
        response.delete_cookie(doors.cookie, path="/")
        return response

    def home(name: str, grant: Grant) -> Response:
        purposes = doors.state.config.purposes
        return page(
            name, who=str(grant.person), csrf=grant.csrf, kinds=KINDS, units=UNITS,
            techniques=techniques.names(), primary=purposes.primary, secondary=purposes.secondary,
        )  # fmt: skip

    @router.get("/analyst")
    async def analyst(request: Request) -> Response:
        return home("analyst.html", session(request))

    @router.post("/analyst/{act}")
    async def ask(act: str, request: Request) -> Response:
        if act not in ("preview", "ask"):
            raise HTTPException(404, "no such page")
        _, form = await form_of(request)

        def asked(gateway: Gateway, person: Person) -> Json:
            query = api.query_of(gateway.state.config, _ask(form))
            answer = gateway.query(person, query, preview=act == "preview")
            return answer | {"chart": _band(answer["values"]) if query.kind == "curve" else None}

        return await part(request, "answer.html", asked)

    @router.get("/analyst/budgets")
    async def budgets(request: Request) -> Response:
        return await part(request, "budgets.html", _budgets)

    @router.get("/officer")
    async def officer(request: Request) -> Response:
        return home("officer.html", session(request))

    @router.get("/officer/{name}")
    async def officer_part(name: str, request: Request) -> Response:
        parts: dict[str, Callable[[Gateway, Person], Json]] = {
            "budgets": _budgets,
            "alarms": desk.alarms,
            "approvals": desk.waiting,
            "log": _newest,
            "verify": api.verified,
        }
        if name == "report":
            grant = session(request)
            report = await doors.asked(grant, compliance.compliance)
            return page("report_page.html", report=report, csrf=grant.csrf)
        if name not in parts:
            raise HTTPException(404, "no such page")
        return await part(request, f"{name}.html", parts[name])

    @router.post("/officer/budget")
    async def budget(request: Request) -> Response:
        _, form = await form_of(request)
        account, limit = form.get("account", "")[:100], form.get("limit", "").strip()

        def change(gateway: Gateway, person: Person) -> Json:
            return approvals.set_budget(gateway, person, account, api.Limit(limit=limit).limit)

        return await part(request, "said.html", _checked(change))

    @router.post("/officer/approve")
    async def approve(request: Request) -> Response:
        number = _number(await form_of(request))
        return await part(
            request, "said.html", lambda g, person: approvals.approve(g, person, number)
        )

    @router.post("/officer/seen")
    async def seen(request: Request) -> Response:
        number = _number(await form_of(request))

        def see(gateway: Gateway, person: Person) -> Json:
            desk.see_alarm(gateway, person, number)
            return desk.alarms(gateway, person)

        return await part(request, "alarms.html", see)

    @router.get("/customer")
    async def customer(request: Request) -> Response:
        return home("customer.html", session(request))

    @router.get("/customer/greenbutton.xml")
    async def greenbutton(request: Request) -> Response:
        xml, _ = await doors.asked(session(request), own_data)
        disposition = {"Content-Disposition": 'attachment; filename="greenbutton.xml"'}
        return Response(xml, 200, disposition, "application/atom+xml")

    @router.get("/customer/report")
    async def report(request: Request) -> Response:
        grant = session(request)
        own = await doors.asked(grant, api.own)
        return page("report_page.html", report=own, csrf=grant.csrf)

    @router.get("/customer/{name}")
    async def customer_part(name: str, request: Request) -> Response:
        parts: dict[str, Callable[[Gateway, Person], Json]] = {
            "data": _days,
            "consents": _consents,
        }
        if name not in parts:
            raise HTTPException(404, "no such page")
        return await part(request, f"{name}.html", parts[name])

    @router.post("/customer/consent")
    async def consent(request: Request) -> Response:
        _, form = await form_of(request)

        def change(gateway: Gateway, person: Person) -> Json:
            subject, granted = person.subject or "", form.get("granted") == "yes"
            desk.set_consent(gateway, person, subject, form.get("purpose", ""), "*", granted)
            return _consents(gateway, person)

        return await part(request, "consents.html", change)

    return router


def _number(got: tuple[Grant, dict[str, str]]) -> int:
    """The form's id; HTTPException 422."""
    number = got[1].get("id", "")
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise HTTPException(422, "id: a whole number")
    return int(number)


def _ask(form: dict[str, str]) -> api.Ask:
    """A query from a form; ValueError."""
    values: dict[str, Any] = {
        name: form.get(name, "") for name in ("kind", "start", "end", "purpose")
    }
    values |= {name: form[name].strip() for name in OPTIONAL if form.get(name, "").strip()}
    values["technique"] = form.get("technique", "dp")
    values["consistent"] = form.get("consistent") == "on"
    keys = ("tariff", "region", "type")
    values["segment"] = {key: form[key].strip() for key in keys if form.get(key, "").strip()}
    try:
        return api.Ask.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}") from None


def _band(values: list[Json]) -> list[list[Any]] | None:
    """Columns of a chart: time, low, high, value."""
    times: list[Any] = [parse_time(row["start"], "start") for row in values]
    columns = [[row[name] for row in values] for name in ("low", "high", "value")]
    return [times, *columns] if values else None


def _checked(act: Callable[[Gateway, Person], Json]) -> Callable[[Gateway, Person], Json]:
    """An operation whose bad form is said without the model's words."""

    def checked(gateway: Gateway, person: Person) -> Json:
        try:
            return act(gateway, person)
        except ValidationError:
            raise ValueError('the limit is a number like "2.5" or "1/3", or "none"') from None

    return checked


def _budgets(gateway: Gateway, person: Person) -> Json:
    return desk.budgets(gateway, person)


def _newest(gateway: Gateway, person: Person) -> Json:
    size = gateway.state.log().size
    return api.entries(gateway, person, max(0, size - NEWEST + 1), NEWEST)


def _consents(gateway: Gateway, person: Person) -> Json:
    """For each secondary purpose, whether the customer's newest word for anybody is yes."""
    rows = desk.consents(gateway, person, person.subject or "")
    said = {row["purpose"]: row["granted"] for row in rows if row["recipient"] == "*"}
    purposes = gateway.state.config.purposes.secondary
    return {"purposes": {name: said.get(name, False) for name in purposes}, "history": rows}


def _days(gateway: Gateway, person: Person) -> Json:
    """The customer's own energy by UTC day, Wh: what the Green Button file holds."""
    xml, about = own_data(gateway, person)
    days: Counter[int] = Counter()
    for reading in read_greenbutton("own", xml.encode(), []):
        days[reading.start // DAY_S] += reading.wh
    rows = [{"start": stamp(day * DAY_S), "value": wh} for day, wh in sorted(days.items())]
    return about | {"rows": rows, "chart": [
        [day * DAY_S for day in sorted(days)], [wh for _, wh in sorted(days.items())]
    ]}  # fmt: skip
