"""What the gateway's commands have in common: the folder, who asks, how a result is shown."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wattveil.privacy import people
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.people import Person
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State

Json = dict[str, Any]


def add_common(parse: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--state-dir and --json."""
    default = os.environ.get("WATTVEIL_STATE_DIR")
    parse.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        required=required and default is None,
        default=None if default is None else Path(default),
        help="the gateway's folder; default $WATTVEIL_STATE_DIR",
    )
    parse.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def add_person(parse: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--as and the proof of it. Where it is not required, the console's operator asks."""
    who = "who asks" + (
        "" if required else f"; default: {people.CONSOLE}, by its key in the folder"
    )
    parse.add_argument("--as", dest="who", metavar="ROLE:NAME", required=required, help=who)
    parse.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="that person's key file; default $WATTVEIL_KEY_FILE, the token in $WATTVEIL_TOKEN, "
        "or where `wattveil role add` put it",
    )


def add_purpose(parse: argparse.ArgumentParser) -> None:
    """--purpose."""
    parse.add_argument("--purpose", required=True, metavar="P", help="one of config.toml's")


def secret_of(args: argparse.Namespace, state: State) -> Path | str:
    """The key file or token of --as; it never comes from the command line itself."""
    if args.key_file is not None:
        return Path(args.key_file)
    if "WATTVEIL_KEY_FILE" in os.environ:
        return Path(os.environ["WATTVEIL_KEY_FILE"])
    token = os.environ.get("WATTVEIL_TOKEN")
    return people.key_file_of(state, args.who) if token is None else token


def person_of(args: argparse.Namespace, gateway: Gateway) -> Person:
    """Who asks, authenticated; without --as the console's operator. Refused."""
    if args.who is None:
        if args.key_file is not None:
            raise ValueError("--key-file is the proof of --as: give both")
        return gateway.authenticate(
            people.CONSOLE, people.key_file_of(gateway.state, people.CONSOLE)
        )
    return gateway.authenticate(args.who, secret_of(args, gateway.state))


def answering(
    args: argparse.Namespace, act: Callable[[], Json], text: Callable[[Json], str]
) -> int:
    """Run a command: its result, or a refusal, as JSON or as text. A refusal is an answer: 0."""
    try:
        result = act()
    except Refused as no:
        result = {"refused": no.reason, "because": str(no).partition(": ")[2], "rule": no.rule}
    if args.json:
        print(json.dumps(result, indent=1))
    elif result.get("refused"):
        print(refusal(result))
    else:
        print(text(result))
    return 0


def refusal(result: Json) -> str:
    """A refusal in words."""
    rule = f" (rule {result['rule']})" if result.get("rule") else ""
    because = result.get("because") or result.get("refused_because") or ""
    return f"refused: {result['refused']}{rule}\n{because}"
