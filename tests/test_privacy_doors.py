"""The doors: API, pages, sessions, limits; what must never come out of them."""

from __future__ import annotations

import base64
import logging
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings

from doorsworld import CANARY, END, START, Folder, meter
from soak.scale import SOAK, scale
from vaultkit import CANARY_NUMBER, CANARY_WH
from wattveil.privacy import people
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.web.access import Grants, Rate
from wattveil.privacy.web.app import create_app
from wattveil.privacy.web.doors import Doors, Rates

MANY = Rates(*[(10**6, 10**6)] * 4)
HOST = "127.0.0.1"
QUERY = {"kind": "curve", "start": START, "end": END, "purpose": "research", "epsilon": "0.01",
         "clip": 1000, "resolution": 3600}  # fmt: skip
CUSTOMER = "customer:house-3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("doors"))


@pytest.fixture(scope="module")
def app(folder: Folder) -> Iterator[FastAPI]:
    doors = Doors(folder.state, rates=MANY)
    yield create_app(doors, HOST)
    doors.close()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)


def token(client: TestClient, folder: Folder, who: str) -> dict[str, str]:
    form = {
        "grant_type": "client_credentials",
        "client_id": who,
        "client_secret": folder.tokens[who],
    }
    answer = client.post("/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def log_in(client: TestClient, folder: Folder, who: str) -> str:
    """A session; its CSRF token."""
    answer = client.post("/login", data={"who": who, "token": folder.tokens[who]})
    assert answer.status_code == 303
    page = client.get(answer.headers["location"])
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found
    return found[1]


def test_token_by_form_and_by_basic_and_no_other_way(client: TestClient, folder: Folder) -> None:
    assert token(client, folder, "analyst:ann")
    pair = f"{quote_plus('analyst:ann')}:{quote_plus(folder.tokens['analyst:ann'])}"
    basic = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    grant = {"grant_type": "client_credentials"}
    assert client.post("/oauth/token", data=grant, headers=basic).status_code == 200
    for who, secret in (("analyst:ann", "wattveil-wrong"), ("analyst:bob", "x"), ("nobody", "x"),
                        (CUSTOMER, folder.tokens["analyst:ann"])):  # fmt: skip
        answer = client.post(
            "/oauth/token", data=grant | {"client_id": who, "client_secret": secret}
        )
        assert answer.status_code == 401 and answer.json() == {"error": "invalid_client"}
    assert client.post("/oauth/token", data={"grant_type": "password"}).status_code == 400
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
        assert client.get("/api/v1/budgets", headers=header).status_code == 401


def test_query_by_the_api_is_previewed_answered_and_charged(
    client: TestClient, folder: Folder
) -> None:
    head = token(client, folder, "analyst:ann")
    expected = client.post("/api/v1/query", json=QUERY | {"preview": True}, headers=head).json()
    assert expected["refused"] is None and not expected["values"]
    answer = client.post("/api/v1/query", json=QUERY, headers=head).json()
    assert answer["refused"] is None and len(answer["values"]) == 48, answer
    assert float(answer["spent"]) > float(expected["spent"])
    assert answer["scale"] == expected["scale"]
    few = client.post("/api/v1/query", json=QUERY | {"segment": {"tariff": "none"}}, headers=head)
    assert few.json()["refused"] == "group_too_small" and few.json()["values"] == []
    for bad in ({"kind": "all"}, {"start": "soon"}, {"epsilon": "1e9999999"}, {"epsilon": "-1"},
                {"segment": {"street": "x"}}, {"clip": 0}, {"what": 1}):  # fmt: skip
        assert client.post("/api/v1/query", json=QUERY | bad, headers=head).status_code == 422, bad


def test_no_role_gets_beyond_its_purpose(client: TestClient, folder: Folder) -> None:
    vendor = token(client, folder, "vendor:vic")
    primary = client.post("/api/v1/query", json=QUERY | {"purpose": "billing"}, headers=vendor)
    assert primary.json()["refused"] == "purpose_not_permitted"
    customer = token(client, folder, CUSTOMER)
    for who, path in ((vendor, "alarms"), (vendor, "log"), (vendor, "reports/compliance"),
                      (vendor, "own/report"), (vendor, "own/greenbutton.xml"), (vendor, "approvals"),
                      (customer, "alarms"), (customer, "log/verify"), (customer, "budgets"),
                      (customer, "reports/compliance"), (customer, "log/0/proof")):  # fmt: skip
        answer = client.get(f"/api/v1/{path}", headers=who)
        assert answer.status_code == 403 and answer.json()["refused"], path
    raised = client.put("/api/v1/budgets/public", json={"limit": "9"}, headers=vendor)
    assert raised.status_code == 403


def test_the_officer_sees_an_alarm_and_says_so(client: TestClient, folder: Folder) -> None:
    ann, pam = (token(client, folder, who) for who in ("analyst:ann", "privacy-officer:pam"))
    for _ in range(3):
        client.post("/api/v1/query", json=QUERY | {"epsilon": "0.001"}, headers=ann)
    last, other, *_ = client.get("/api/v1/alarms", headers=pam).json()["alarms"]
    assert last["kind"] == "repeated" and last["seen_by"] is None
    path = f"/api/v1/alarms/{last['id']}/seen"
    assert client.post(path, headers=ann).status_code == 403
    assert client.post(path, headers=pam).json()["seen_by"] == "privacy-officer:pam"
    assert client.post("/api/v1/alarms/123456/seen", headers=pam).status_code == 422
    csrf = log_in(client, folder, "privacy-officer:pam")
    buttons = client.get("/officer/alarms").text.count("Seen</button>")
    form = {"csrf": csrf, "id": str(other["id"])}
    assert client.post("/officer/seen", data=form | {"csrf": "x"}).status_code == 403
    said = client.post("/officer/seen", data=form).text
    assert said.count("Seen</button>") == buttons - 1 and "privacy-officer:pam" in said


def test_raising_a_budget_takes_two_persons(client: TestClient, folder: Folder) -> None:
    officer, regulator = (
        token(client, folder, w) for w in ("privacy-officer:pam", "regulator:reg")
    )
    lowered = client.put("/api/v1/budgets/public", json={"limit": "1/2"}, headers=officer)
    assert lowered.json()["set"] is True
    asked = client.put("/api/v1/budgets/public", json={"limit": "2"}, headers=officer).json()
    path = f"/api/v1/approvals/{asked['approval']}"
    assert asked["set"] is False and client.post(path, headers=officer).status_code == 403
    assert client.post(path, headers=regulator).json()["approved"] is True
    assert client.post(path, headers=regulator).status_code == 404
    shown = client.get("/api/v1/budgets", headers=officer).json()
    assert shown["accounts"]["public"]["limit"] == "2" and shown["audit"] == []


def test_log_by_the_api_can_be_checked(client: TestClient, folder: Folder) -> None:
    head = token(client, folder, "regulator:reg")
    assert client.get("/api/v1/log/verify", headers=head).json()["consistent"] is True
    page = client.get("/api/v1/log?start=0&limit=5", headers=head).json()
    assert [row["index"] for row in page["entries"]] == list(range(5))
    proof = client.get("/api/v1/log/0/proof", headers=head)
    assert proof.json()["leaf"] == page["entries"][0]["leaf"]
    assert client.get(f"/api/v1/log/{2**52}/proof", headers=head).status_code == 422


def test_customer_sees_own_data_and_nobody_elses(client: TestClient, folder: Folder) -> None:
    own = token(client, folder, CUSTOMER)
    xml = client.get("/api/v1/own/greenbutton.xml", headers=own)
    assert xml.status_code == 200 and xml.headers["content-type"].startswith(
        "application/atom+xml"
    )
    values = [int(v) for v in re.findall(r"<(?:\w+:)?value>(\d+)</", xml.text)]
    assert sum(values) == folder.wh[3].sum() and CANARY not in xml.text
    consent = {"purpose": "research", "granted": True}
    assert client.post("/api/v1/own/consents", json=consent, headers=own).json()["granted"] is True
    assert len(client.get("/api/v1/own/consents", headers=own).json()["consents"]) == 1
    report = client.get("/api/v1/own/report", headers=own).json()
    other = client.get(
        "/api/v1/own/report", headers=token(client, folder, "customer:house-4")
    ).json()
    assert report["subject"] != other["subject"] and other["consents"] == []
    assert any(row["details"].get("format") == "green button" for row in report["accesses"])
    assert not any(row["details"].get("format") for row in other["accesses"])


def test_pages_need_a_session_and_forms_their_token(client: TestClient, folder: Folder) -> None:
    for path in ("/analyst", "/officer", "/customer", "/officer/log", "/customer/greenbutton.xml"):
        answer = client.get(path)
        assert answer.status_code == 303 and answer.headers["location"] == "/", path
    wrong = client.post("/login", data={"who": "analyst:ann", "token": "no"})
    assert wrong.status_code == 401 and not client.cookies
    csrf = log_in(client, folder, "privacy-officer:pam")
    cookie = client.cookies.jar
    assert all(c.has_nonstandard_attr("HttpOnly") for c in cookie)
    assert [c.get_nonstandard_attr("SameSite") for c in cookie] == ["strict"]
    policy = client.get("/officer").headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    form = {"account": "public", "limit": "1/4"}
    for bad in ("", "x" * 32, "é"):
        assert client.post("/officer/budget", data=form | {"csrf": bad}).status_code == 403
    good = form | {"csrf": csrf}
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/officer/budget", data=good, headers=header).status_code == 403
    assert "limit 0.25" in client.post("/officer/budget", data=good).text
    assert "more than" not in client.post("/officer/budget", data=good | {"limit": "much"}).text
    parts = {name: client.get(f"/officer/{name}").text for name in
             ("budgets", "alarms", "approvals", "log", "verify", "report")}  # fmt: skip
    assert "dataset:meters" in parts["budgets"] and "Consistent" in parts["verify"]
    assert "CPUC-PRIMARY-BILLING" in parts["report"] and "not read" in parts["report"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    assert client.get("/officer").status_code == 303


def test_pages_of_analyst_and_customer(client: TestClient, folder: Folder) -> None:
    form = {name: str(value) for name, value in QUERY.items()}
    form["csrf"] = log_in(client, folder, "analyst:ann")
    assert "Nothing was spent" in client.post("/analyst/preview", data=form).text
    answer = client.post("/analyst/ask", data=form).text
    assert "data-chart" in answer and answer.count("<tr>") == 49
    assert 'role="alert"' in client.post("/analyst/ask", data=form | {"epsilon": "<b>"}).text
    assert "group_too_small" in client.post("/analyst/ask", data=form | {"region": "<i>"}).text
    client.cookies.clear()
    form = {"csrf": log_in(client, folder, CUSTOMER), "purpose": "marketing", "granted": "yes"}
    assert "2 days" in client.get("/customer/data").text
    assert "Revoke" in client.post("/customer/consent", data=form).text
    given = client.get("/customer/consents").text.count("Revoke")
    revoked = client.post("/customer/consent", data=form | {"granted": "no"}).text
    assert revoked.count("Revoke") == given - 1
    report = client.get("/customer/report").text
    assert "curve, technique dp" in report and "research" in report
    assert client.get("/customer/greenbutton.xml").status_code == 200


def test_access_ends_when_it_is_withdrawn_idle_or_over(client: TestClient, folder: Folder) -> None:
    folder.add("analyst:tmp")
    head = token(client, folder, "analyst:tmp")
    assert client.get("/api/v1/budgets", headers=head).status_code == 200
    people.revoke(folder.state, "analyst:tmp")
    del folder.tokens["analyst:tmp"]
    assert client.get("/api/v1/budgets", headers=head).status_code == 401
    now = [0.0]
    grants = Grants(life_s=100, idle_s=10, clock=lambda: now[0])
    secret = grants.issue(people.Person("analyst", "ann"))
    assert grants.find(secret) and not grants.find(secret + "x")
    for at, good in ((9, True), (18, True), (28, False), (28, False)):
        now[0] = at
        assert bool(grants.find(secret)) is good
    secret = grants.issue(people.Person("analyst", "ann"))
    for at in range(28, 128, 5):
        now[0] = at
        assert grants.find(secret)
    now[0] = 128
    assert grants.find(secret) is None


def test_who_knocks_too_often_waits(folder: Folder) -> None:
    now = [0.0]
    rate = Rate(2, 0.5, clock=lambda: now[0])
    assert [rate.wait("a") for _ in range(3)] == [0.0, 0.0, 2.0] and rate.wait("b") == 0.0
    now[0] = 2.0
    assert rate.wait("a") == 0.0
    doors = Doors(folder.state, rates=Rates(login=(2, 0.01), address=(6, 0.01)))
    client = TestClient(create_app(doors, HOST), base_url=f"http://{HOST}")
    form = {"grant_type": "client_credentials", "client_id": "analyst:ann", "client_secret": "x"}
    codes = [client.post("/oauth/token", data=form).status_code for _ in range(4)]
    assert codes == [401, 401, 429, 429]
    codes = [client.get("/api/v1/budgets").status_code for _ in range(4)]
    assert codes == [401, 401, 429, 429]
    doors.close()


def test_other_names_of_this_host_are_not_answered(app: FastAPI) -> None:
    assert TestClient(app, base_url="http://evil.example").get("/").status_code == 400


def test_a_failure_says_that_and_not_what(
    folder: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"row of {meter(3)}: 123 Wh")

    doors = Doors(folder.state, rates=MANY)
    client = TestClient(create_app(doors, HOST), base_url=f"http://{HOST}")
    head = token(client, folder, "analyst:ann")
    monkeypatch.setattr(Gateway, "query", broken)
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/api/v1/query", json=QUERY, headers=head)
    assert answer.status_code == 500 and CANARY not in answer.text
    assert "RuntimeError" in caplog.text and CANARY not in caplog.text
    monkeypatch.setattr(
        Gateway, "query", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError())
    )
    assert client.post("/api/v1/query", json=QUERY, headers=head).status_code == 503
    doors.close()


def test_openapi_document_finds_no_server_error(app: FastAPI, folder: Folder) -> None:
    """schemathesis over every operation, as everybody."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error

    client = TestClient(app, base_url=f"http://{HOST}")
    heads: list[dict[str, str]] = []
    seen = Counter[int]()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": HOST})
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 15
    started = time.monotonic()
    for operation in operations:
        # Anew each time: they end after ten minutes.
        heads[:] = [*(token(client, folder, who) for who in folder.tokens), {}]

        @settings(
            max_examples=scale(6, 150), deadline=timedelta(seconds=30), derandomize=True, database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def attempt(case: Any) -> None:
            short_of_time = not SOAK and time.monotonic() - started > 4
            for head in heads[:2] if short_of_time else heads:
                answer = case.call(headers={**head, "host": HOST})
                seen[answer.status_code] += 1
                case.validate_response(answer, checks=(not_a_server_error,))

        from hypothesis import given

        given(case=operation.as_strategy())(attempt)()
    print(
        f"{len(operations)} operations, {len(folder.tokens) + 1} callers, {seen.total()} requests: {seen}"
    )
    assert 200 in seen and 422 in seen and not any(code >= 500 for code in seen), seen


def test_canaries_come_out_nowhere(
    client: TestClient, folder: Folder, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """No identity, no token and no single reading in any answer, page, log entry, metric, log line or
    file."""
    caplog.set_level(logging.DEBUG)
    said = []
    for who in ("analyst:ann", "privacy-officer:pam", CUSTOMER):
        head = token(client, folder, who)
        for path in ("budgets", "alarms", "approvals", "log?limit=500", "log/verify", "log/0/proof",
                     "reports/compliance", "own/report", "own/consents", "own/greenbutton.xml",
                     "techniques"):  # fmt: skip
            said.append(client.get(f"/api/v1/{path}", headers=head).text)
        for change in ({}, {"preview": True}, {"technique": "aggregate", "epsilon": None, "clip": None},
                       {"technique": "aggregate", "epsilon": None, "clip": None,
                        "purpose": "planning", "segment": {"tariff": "tou"}},
                       {"clip": 100_000_000, "kind": "histogram", "resolution": None},
                       {"kind": "quantile", "resolution": None}, {"technique": "magic"}):  # fmt: skip
            asked = {k: v for k, v in (QUERY | change).items() if v is not None}
            said.append(client.post("/api/v1/query", json=asked, headers=head).text)
        client.cookies.clear()
        log_in(client, folder, who)
        for path in ("analyst/budgets", "officer/budgets", "officer/alarms", "officer/log",
                     "officer/report", "customer/data", "customer/consents", "customer/report"):  # fmt: skip
            page = client.get(f"/{path}")
            said.append(page.text)
    said.append(client.get("/metrics").text)
    said.append(client.get("/openapi.json").text)
    assert "wattveil_gateway_requests_total" in said[-2]
    folder.state.gateway().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    secrets = [CANARY, f"{CANARY_WH:,}", *folder.tokens.values()]
    everything = "\n".join([*said, caplog.text])
    for secret in secrets:
        assert secret not in everything, secret
    assert not CANARY_NUMBER.search(everything.encode())
    for file in folder.state.path.rglob("*"):
        if file.is_file():
            held = file.read_bytes()
            plain = [secret.encode() for secret in secrets] + [2 * CANARY_WH.to_bytes(4, "little")]
            for secret_bytes in plain:
                assert secret_bytes not in held, (file.name, secret_bytes)
            assert not CANARY_NUMBER.search(held), file.name
