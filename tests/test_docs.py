"""The documentation: built strictly, asks nobody else for anything, and shows no command that is none."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from wattveil.cli import ROLES, parser
from wattveil.runners import process

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SYNOPSIS = re.compile(r"[\[\]…|]|\.\.\.")  # what is no command line, but says how one is made
# Labels of hashes, MACs and files in PROTOCOL.md, all of which begin so.
NAMES = "closing group link meter next prf reading register registered time".split()
LABELS = {f"wattveil {name}" for name in (*NAMES, "meter 1", "record 1", "vectors 1")}
STATE = "--state-dir"  # pages on one role say it once and leave it out of their examples
REST = re.compile(r"\s(?:[|>&;]|->)| {2,}(?![ -])")  # a pipe, or words in a second column


class Loaded(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            pass
        else:
            self.found += [
                given[name] or "" for name in ("src", "href", "srcset") if name in given
            ]
        assert "mermaid" not in (given.get("class") or "")  # its script would be fetched


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_the_site(site: Path) -> None:
    """Every page is there, and nothing is loaded but what is in the site; links inside lead somewhere."""
    pages = sorted(site.rglob("*.html"))
    names = {page.stem for page in pages}
    assert names >= {page.stem for page in PAGES if page.parent.name == "docs"}
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        for url in loaded.found + loaded.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                assert url in loaded.links, f"{page.name} loads {url}"
            elif parts.path and page.name != "404.html":
                assert (page.parent / unquote(parts.path)).exists(), f"{page.name}: {url}"
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()) == []


def test_the_api_page_says_something(site: Path) -> None:
    """mkdocstrings found the modules, both roots of the source."""
    page = (site / "API.html").read_text()
    for name in ("epsilon_received", "FleetSettings", "wattveil_meter.noise", "make_sampler"):
        assert name in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links(page: Path) -> None:
    """In the repository as well: files that are there."""
    for url in LINK.findall(page.read_text()):
        parts = urlsplit(url)
        if not parts.scheme and parts.path:
            assert (page.parent / unquote(parts.path)).exists(), url


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """`wattveil ...` in code blocks and in running text, each on a line; whether it is only named there."""
    text = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M):
        lines += block.splitlines()
    spans = [span.replace("\n", " ") for span in SPAN.findall(text)]
    for line, named in [*((line, False) for line in lines), *((span, True) for span in spans)]:
        words = REST.split(line.removeprefix("$ ").removeprefix(".venv/bin/"))[0]
        if words.startswith("wattveil ") and not SYNOPSIS.search(words) and words not in LABELS:
            yield words, named


def parse(line: str) -> None:
    """SystemExit for what the command would refuse. Placeholders in capitals stand for anything."""
    words = shlex.split(line, comments=True)[1:]
    with _placeholders():
        if words[0] in ROLES:
            process.parser(words[0]).parse_args(words[1:])
        elif not words[0].isupper():
            parser().parse_args(words)


@contextlib.contextmanager
def _placeholders() -> Iterator[None]:
    """argparse takes N or SHARE where it wants a number or a choice."""
    value, check = argparse.ArgumentParser._get_value, argparse.ArgumentParser._check_value

    def any_value(self: argparse.ArgumentParser, action: argparse.Action, text: str) -> object:
        return text if text.isupper() else value(self, action, text)

    def any_choice(self: argparse.ArgumentParser, action: argparse.Action, given: object) -> None:
        if not (isinstance(given, str) and given.isupper()):
            check(self, action, given)

    patch = pytest.MonkeyPatch()
    patch.setattr(argparse.ArgumentParser, "_get_value", any_value)
    patch.setattr(argparse.ArgumentParser, "_check_value", any_choice)
    try:
        yield
    finally:
        patch.undo()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each one parses as the program parses it."""
    refused = []
    for line, named in commands(page.read_text()):
        try:
            parse(line)
        except SystemExit as stop:
            words = capsys.readouterr().err.strip().splitlines() or [""]
            missing = "required" in words[-1] and (named or STATE in words[-1].split(": ")[-1])
            if stop.code and not missing:
                refused.append(f"{line}: {words[-1]}")
    assert refused == []


def test_a_wrong_command_line_is_found() -> None:
    """The check itself: in a block, in a span, with a placeholder where none may be."""
    text = "    wattveil demo --nope   # so\n\nand `wattveil plan --meters few`, `wattveil plan --meters N`"
    lines = [line for line, _ in commands(text)]
    assert len(lines) == 3
    for line in lines[:2]:
        with pytest.raises(SystemExit):
            parse(line)
    parse(lines[2])
