"""`wattveil gateway serve`: the doors."""

from __future__ import annotations

import argparse
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

from wattveil.privacy.command import add_common
from wattveil.privacy.state import State

HOST, PORT = "127.0.0.1", 8736


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    actions = parse.add_subparsers(required=True, metavar="ACTION")
    serve = actions.add_parser("serve", help="API and pages, until Ctrl-C")
    serve.add_argument("--host", default=HOST, help="address to listen on; others than loopback "
                       "need a certificate")  # fmt: skip
    serve.add_argument("--port", type=int, default=PORT, help="0: any free one")
    serve.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate chain")
    serve.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key, mode 0600")
    serve.add_argument("--client-ca", type=Path, metavar="PEM",
                       help="mutual TLS: only clients with a certificate of this authority")  # fmt: skip
    spec = actions.add_parser("openapi", help="print the API's OpenAPI document")
    for action, act in ((serve, _serve), (spec, _openapi)):
        add_common(action)
        action.set_defaults(act=act)


def run(args: argparse.Namespace) -> int:
    """0 when stopped. ValueError for what cannot be served."""
    try:
        import fastapi  # noqa: F401
        import jinja2  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"{error.name} is missing: pip install 'wattveil[privacy,web]'"
        ) from None
    return int(args.act(args))


def _openapi(args: argparse.Namespace) -> int:
    import json

    from wattveil.privacy.web.app import create_app
    from wattveil.privacy.web.doors import Doors

    doors = Doors(State.open(args.state_dir))
    print(json.dumps(create_app(doors, HOST).openapi(), indent=1))
    doors.close()
    return 0


def _serve(args: argparse.Namespace) -> int:
    import uvicorn

    from wattveil.privacy.web.app import create_app
    from wattveil.privacy.web.doors import Doors
    from wattveil.web.server import is_loopback

    tls = _tls(args)
    if not tls and not is_loopback(args.host):
        raise ValueError(f"--host {args.host} shows the gateway to a network: give --tls-cert and "
                         "--tls-key, or listen on loopback behind a proxy that has them")  # fmt: skip
    state = State.open(args.state_dir)
    state.vault().close()  # so that a missing vault shows now, not at the first question
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    doors = Doors(state, tls=bool(tls))
    config = uvicorn.Config(
        create_app(doors, args.host), args.host, args.port, log_config=None, access_log=False,
        lifespan="off", server_header=False, proxy_headers=False, timeout_keep_alive=20,
        limit_concurrency=200, h11_max_incomplete_event_size=16_384, timeout_graceful_shutdown=10,
        **tls,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    sock = socket.create_server((args.host, args.port), family=family)  # listens before it is told
    host, port = sock.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"{'https' if tls else 'http'}://{host}:{port}/", flush=True)
    try:
        uvicorn.Server(config).run([sock])
    finally:
        doors.close()
    return 0


def _tls(args: argparse.Namespace) -> dict[str, Any]:
    if not (args.tls_cert or args.tls_key or args.client_ca):
        return {}
    if not (args.tls_cert and args.tls_key):
        raise ValueError("--tls-cert and --tls-key belong together; --client-ca needs both")
    if args.tls_key.stat().st_mode & 0o077:
        raise ValueError(f"{args.tls_key} is readable by others: chmod 600")
    files: dict[str, Any] = {"ssl_certfile": args.tls_cert, "ssl_keyfile": args.tls_key}
    if args.client_ca:
        files |= {"ssl_ca_certs": str(args.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return files
