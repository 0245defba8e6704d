"""`wattveil web` and `wattveil demo --web`."""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from wattveil.demo.plan import DemoOptions, make_plan

PORT = 8735
HOST = "127.0.0.1"
PACE_S = 2.0  # the least time a demo's period takes
DEADLINE_S = 2.0
TOKEN_BYTES = 24


def page_options(parse: argparse.ArgumentParser) -> None:
    """Where the page is."""
    parse.add_argument("--web-port", type=int, default=PORT, metavar="N",
                       help="of the live page; 0: any free one")  # fmt: skip
    parse.add_argument("--web-host", default=HOST, metavar="HOST",
                       help="address the page listens on: others than loopback show it to whoever "
                       "reaches them")  # fmt: skip


def demo_options(parse: argparse.ArgumentParser) -> None:
    """The page of `wattveil demo`."""
    page_options(parse)
    parse.add_argument("--web-pace", type=float, default=PACE_S, metavar="S",
                       help="least seconds a period takes with --web")  # fmt: skip


def options(parse: argparse.ArgumentParser) -> None:
    """`wattveil web`."""
    parse.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    for role in ("cloud", "center", "dealer"):
        parse.add_argument(f"--{role}", metavar="ADDR",
                           help=f"where the {role} was told to answer: its --status")  # fmt: skip
    page_options(parse)


def run(args: argparse.Namespace) -> int:
    """Show a fleet that runs already."""
    _needed()
    from wattveil.runners.sockets import parse_address
    from wattveil.web.attach import Attached
    from wattveil.web.events import Board
    from wattveil.web.server import create_app, serving

    roles = ("cloud", "center", "dealer")
    addresses = {role: getattr(args, role) for role in roles if getattr(args, role)}
    if not addresses:
        raise ValueError("name at least one role, as in --cloud unix:/run/wattveil/cloud.status")
    for address in addresses.values():
        parse_address(address)
    board = Board()
    with serving(lambda over: create_app(board, None, args.web_host, over),
                 args.web_host, args.web_port) as where:  # fmt: skip
        _say(where, "")
        Attached(board, addresses).run()
    return 0


def run_demo(given: DemoOptions, args: argparse.Namespace) -> int:
    """`wattveil demo --web`: until Ctrl-C."""
    _needed()
    from wattveil.demo.live import PERIODS, Command, Live
    from wattveil.demo.run import preflight
    from wattveil.web.controls import Controls
    from wattveil.web.events import Board
    from wattveil.web.server import create_app, serving
    from wattveil.web.views import Show

    if given.deadline == DemoOptions.deadline:
        given = replace(given, deadline=DEADLINE_S)
    plan = make_plan(given, PERIODS)
    preflight(plan)
    console = Console(stderr=True)
    if plan.warning:
        console.print(f"warning: {plan.warning}", style="yellow", markup=False)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    board = Board()
    budget = f"{float(PERIODS * plan.epsilon):g}"  # a day's half hours
    with tempfile.TemporaryDirectory(prefix="wattveil-") as root:
        live = Live(given, Show(board), Path(root), budget, args.web_pace)
        post: Callable[[Command], None] = live.post
        controls = Controls(post, given, token)
        with serving(lambda over: create_app(board, controls, args.web_host, over),
                     args.web_host, args.web_port) as where:  # fmt: skip
            _say(where, token)
            live.run()
    return 0


def _needed() -> None:
    try:
        import fastapi  # noqa: F401
        import jinja2  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"{error.name} is missing: pip install 'wattveil[web]'") from None


def _say(where: tuple[str, int], token: str) -> None:
    """The link, once, on the terminal. The fragment of a URL is never sent to a server."""
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    print(f"http://{host}:{where[1]}/" + (f"#token={token}" if token else ""), flush=True)
