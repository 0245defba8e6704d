"""The server of a live page: read-only for whoever reaches it, controls for who has the token.

Nothing is loaded from elsewhere, and the page is told so (Content-Security-Policy). On a loopback
address only loopback names are answered, which ends DNS rebinding.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from wattveil.web import coalition
from wattveil.web.controls import Controls, escape, routes
from wattveil.web.events import Board

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src"
    " 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
STREAMS = 64  # browsers at once
START_S = 60.0  # of a busy machine


def is_loopback(host: str) -> bool:
    """Whether an address to listen on reaches this machine only."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def templates() -> Environment:
    """The pages; every value is escaped, and a missing one is an error."""
    return Environment(
        loader=FileSystemLoader([HERE / "templates", HERE / "base"]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
    )


def secured(app: FastAPI, host: str) -> None:
    """What every page of wattveil's servers has: headers, loopback names, plain errors."""
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)

    @app.middleware("http")
    async def headers(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(AnyHTTPException)
    async def plain(request: Request, error: AnyHTTPException) -> HTMLResponse:
        return HTMLResponse(escape(str(error.detail)), error.status_code)

    app.mount("/base", StaticFiles(directory=HERE / "base"), name="base")
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")


def create_app(
    board: Board, controls: Controls | None, host: str, over: Callable[[], bool]
) -> FastAPI:
    """The bench page. controls: None for a page that only shows; over: ends the event streams."""
    app = FastAPI(title="wattveil bench", docs_url=None, redoc_url=None, openapi_url=None)
    secured(app, host)
    pages = templates()
    page, fragment = pages.get_template("bench.html"), pages.get_template("coalition.html")
    streams = threading.BoundedSemaphore(STREAMS)

    @app.get("/", response_class=HTMLResponse)
    async def index() -> str:
        return page.render(parts=controls.parts if controls else ())

    @app.get("/events")
    async def events(request: Request) -> StreamingResponse:
        if not streams.acquire(blocking=False):
            raise HTTPException(503, "too many browsers")

        async def released() -> Any:
            try:
                async for text in board.stream(request.headers.get("last-event-id"), over):
                    yield text
            finally:
                streams.release()

        return StreamingResponse(released(), media_type="text/event-stream")

    @app.get("/coalition", response_class=HTMLResponse)
    async def who(cloud: str = "", center: str = "", dealer: str = "") -> str:
        chosen = {"cloud": cloud, "center": center, "dealer": dealer}
        roles = frozenset(name for name, value in chosen.items() if value == "on")
        return fragment.render(row=coalition.of(roles), roles=roles, seen=board.get("cipher"))

    if controls is not None:
        app.include_router(routes(controls))
    return app


@contextlib.contextmanager
def serving(
    make: Callable[[Callable[[], bool]], FastAPI], host: str, port: int
) -> Iterator[tuple[str, int]]:
    """Run an app in a thread of its own; its address. OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family)
    config = uvicorn.Config(
        make(lambda: server.should_exit), log_level="error", access_log=False, lifespan="off",
        timeout_graceful_shutdown=2, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],), name="web", daemon=True)
    thread.start()
    try:
        limit = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > limit:
                raise OSError(f"no server on {host} port {port}")
            time.sleep(0.01)
        yield host, sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(START_S)
        sock.close()
