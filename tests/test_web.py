"""The server of the live page, without a browser: what it tells whom, and what it takes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.cli import main
from wattveil.demo.live import Command
from wattveil.demo.plan import DemoOptions
from wattveil.web import coalition, server
from wattveil.web.controls import BODY, Controls
from wattveil.web.events import Board
from wattveil.web.server import HERE, create_app, is_loopback

TOKEN = "t0ken-t0ken"
BEARER = {"authorization": f"Bearer {TOKEN}"}
OPTIONS = DemoOptions(link="memory", bits=512, insecure_test_key=True)
WEB = [path for path in HERE.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]


@pytest.fixture
def asked() -> list[Command]:
    return []


@pytest.fixture
def client(asked: list[Command]) -> Iterator[TestClient]:
    app = create_app(Board(), Controls(asked.append, OPTIONS, TOKEN), "127.0.0.1", lambda: True)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


# --- the board ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3), st.booleans())))
def test_whoever_takes_every_change_sees_the_board(
    steps: list[tuple[str, int | None, bool]],
) -> None:
    board, truth, seen, version = Board(), {}, {}, 0
    for name, value, look in steps:
        board.put(name, value)
        truth[name] = value
        if look:
            version, items = board.since(version)
            seen |= json.loads(items)
    version, items = board.since(version)
    seen |= json.loads(items)
    kept = {name: value for name, value in truth.items() if value is not None}
    assert {name: value for name, value in seen.items() if value is not None} == kept
    assert json.loads(board.since(0)[1]) == kept  # a newcomer is not told what is gone


def test_the_same_value_is_no_change() -> None:
    board = Board()
    board.put("a", {"x": 1})
    version, _ = board.since(0)
    board.put("a", {"x": 1})
    board.put("b", None)
    assert board.since(version) == (version, "{}")


@pytest.mark.parametrize(
    "id", ["", "x", "-1", "{run}-", "{run}--1", "{run}-9" + "9" * 20, "0-5", "{run}-٣"]
)
def test_a_strange_event_id_starts_anew(id: str) -> None:
    board = Board()
    assert board.version_of(id.replace("{run}", board.run)) == 0


def test_a_stream_goes_on_where_it_was() -> None:
    board = Board()
    board.put("a", 1)

    async def first_of(event_id: str | None) -> str:
        async for text in board.stream(event_id, lambda: False):
            return text
        raise AssertionError

    text = asyncio.run(first_of(None))
    assert text.endswith('event: all\ndata: {"a":1}\n\n')
    (event_id,) = re.findall(r"^id: (.*)$", text, re.M)
    board.put("b", 2)
    assert asyncio.run(first_of(event_id)).endswith('event: some\ndata: {"b":2}\n\n')


# --- the server ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/coalition", "/base/theme.css", "/static/bench.js", "/nothing"]
)
def test_every_answer_forbids_requests_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = dict(
        rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.status_code == (404 if path == "/nothing" else 200)


def test_no_page_names_another_address_or_holds_a_script() -> None:
    assert len(WEB) > 8
    for path in WEB:
        text = path.read_text()
        if "vendor" not in path.parts:
            assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}, (
                path
            )
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", text), path


def test_vendored_files_are_those_in_the_notice() -> None:
    folder = HERE / "static" / "vendor"
    noted = dict(
        reversed(line.split())
        for line in (folder / "NOTICE").read_text().splitlines()
        if "  " in line
    )
    files = {path.name for path in folder.iterdir() if path.suffix in (".js", ".css")}
    assert noted.keys() == files
    for name, digest in noted.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"])
def test_other_names_are_not_answered_on_loopback(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400
    assert client.post("/do/hello", headers=BEARER | {"host": host}).status_code == 400


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example", "")))


def test_a_page_that_only_shows_has_no_controls() -> None:
    with TestClient(create_app(Board(), None, "0.0.0.0", lambda: True)) as client:
        assert "controls-h" not in client.get("/").text
        assert client.post("/do/hello", headers=BEARER).status_code in (404, 405)


# --- the controls -------------------------------------------------------------------------------

FAULTS: list[tuple[str, dict[str, str], Command]] = [
    ("unplug", {"meter": "3"}, Command("unplug", number=3)),
    ("plug", {"meter": "3"}, Command("plug", number=3)),
    ("watch", {"meter": "1"}, Command("watch", number=1)),
    ("forge", {"meter": "2", "kind": "replayed"}, Command("forge", number=2, name="replayed")),
    ("kill", {"role": "dealer"}, Command("kill", name="dealer")),
]
SETTINGS = {"suite": "compact", "gamma": "5", "epsilon": "0.5", "meters": "7", "budget": "24"}


@pytest.mark.parametrize(("name", "form", "command"), FAULTS)
def test_faults(
    client: TestClient, asked: list[Command], name: str, form: dict[str, str], command: Command
) -> None:
    assert client.post(f"/do/{name}", data=form, headers=BEARER).status_code == 200
    assert asked == [command]


def test_settings_are_those_of_the_plan(client: TestClient, asked: list[Command]) -> None:
    assert client.post("/do/settings", data=SETTINGS, headers=BEARER).status_code == 200
    (command,) = asked
    made = command.options
    assert made is not None and (made.suite, made.gamma, made.epsilon, made.meters) == (
        "compact",
        5,
        "0.5",
        7,
    )
    assert command.budget == "24" and made.bits == 512 and made.link == "memory"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": "0"}, "gamma"), ({"gamma": "256"}, "gamma"), ({"gamma": "٣"}, "whole number"),
        ({"meters": "1"}, "meters"), ({"meters": "501"}, "meters"), ({"meters": ""}, "meters"),
        ({"epsilon": "0"}, "epsilon"), ({"epsilon": "x<y"}, "x&lt;y"), ({"epsilon": "1e999999999"}, ""),
        ({"suite": "none"}, "none"), ({"budget": "-1"}, "budget"), ({"budget": "9" * 13}, "budget"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(
    client: TestClient, asked: list[Command], change: dict[str, str], words: str
) -> None:
    answer = client.post("/do/settings", data=SETTINGS | change, headers=BEARER)
    assert answer.status_code == 422 and words in answer.text
    assert not asked


HEADERS: list[dict[str, str]] = [
    {},
    {"authorization": "Bearer"},
    {"authorization": "Bearer x"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"cookie": f"token={TOKEN}"},
]


@pytest.mark.parametrize("header", HEADERS)
def test_without_the_token_nothing_is_done(
    client: TestClient, asked: list[Command], header: dict[str, str]
) -> None:
    for name, form, _ in FAULTS:
        assert client.post(f"/do/{name}", data=form, headers=header).status_code == 403
    assert client.post(f"/do/hello?token={TOKEN}", headers=header).status_code == 403
    assert client.get("/do/kill", headers=BEARER).status_code in (404, 405)
    assert not asked


def test_a_large_form_is_refused(client: TestClient) -> None:
    answer = client.post("/do/kill", content=b"role=" + b"x" * BODY, headers=BEARER)
    assert answer.status_code == 413


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(["settings", "unplug", "forge", "kill", "watch", "hello"]),
       body=st.binary(max_size=80) | st.sampled_from([b"meter=", b"role=", b"gamma=1&"]).flatmap(
           lambda start: st.binary(max_size=30).map(lambda rest: start + rest)))  # fmt: skip
def test_no_form_breaks_the_server(name: str, body: bytes) -> None:
    app = create_app(Board(), Controls(lambda _: None, OPTIONS, TOKEN), "127.0.0.1", lambda: True)
    answer = TestClient(app, base_url="http://127.0.0.1").post(
        f"/do/{name}", content=body, headers=BEARER
    )
    assert answer.status_code in (200, 400, 422)


# --- coalitions, theme, command line ------------------------------------------------------------


def test_every_coalition_has_its_row(client: TestClient) -> None:
    names = (coalition.CLOUD, coalition.CENTER, coalition.DEALER)
    assert len(coalition.TABLE) == 2 ** len(names)
    for roles, row in coalition.TABLE.items():
        page = client.get("/coalition", params=dict.fromkeys(roles, "on")).text
        assert row.learns.split("'")[0].split("(")[0] in page
        # only all three have nothing they must not learn: the trust boundary
        assert (row.never == "") == (len(roles) == 3)
    assert client.get("/coalition", params={"cloud": "x", "other": "on"}).status_code == 200


def test_too_many_browsers_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STREAMS", 0)
    with TestClient(create_app(Board(), None, "0.0.0.0", lambda: True)) as client:
        assert client.get("/events").status_code == 503


def _luminance(colour: str) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast_of_both_themes() -> None:
    """WCAG 2.2: 4.5 for text, 3 for the edges of fields and the lines of charts."""
    text = (HERE / "base" / "theme.css").read_text()
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{([^{}]*--page:[^{}]*)\}", text)
    ]
    assert len(blocks) == 3 and blocks[1] == blocks[2]  # dark by choice and by the system
    for theme in blocks[:2]:

        def contrast(a: str, b: str, theme: dict[str, str] = theme) -> float:
            high, low = sorted((_luminance(theme[a]), _luminance(theme[b])), reverse=True)
            return (high + 0.05) / (low + 0.05)

        for ink in ("ink", "soft", "main", "truth", "law", "good", "bad"):
            assert contrast(ink, "card") >= 4.5, ink
        assert contrast("ink", "field") >= 4.5 and contrast("on-main", "main") >= 4.5
        assert contrast("ink", "page") >= 4.5 and contrast("edge", "card") >= 3


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web"]) == 2
    assert "name at least one role" in capsys.readouterr().err
    assert main(["web", "--cloud", "nowhere"]) == 2
    assert "unix:/path" in capsys.readouterr().err


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["web", "--cloud", f"unix:{tmp_path}/x", "--web-port", port]) == 1
    assert "in use" in capsys.readouterr().err
