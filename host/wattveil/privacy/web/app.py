"""The doors as an ASGI application. Whatever goes wrong behind them, the caller learns that it did,
and the server's log where: never with what values."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException

from wattveil.privacy.config import ConfigError
from wattveil.privacy.log import LogError
from wattveil.privacy.refusals import Refused
from wattveil.privacy.vault.vault import VaultDamaged
from wattveil.privacy.web import api, pages
from wattveil.privacy.web.doors import Doors, address, slowed
from wattveil.store import StoreError
from wattveil.web.controls import escape
from wattveil.web.server import HEADERS, is_loopback, secured

LOG = logging.getLogger("wattveil.gateway")
UNAVAILABLE = (ConfigError, StoreError, LogError, VaultDamaged, sqlite3.Error)
STATUS = {"not_authenticated": 401, "revoked_person": 401, "approval_unknown": 404, "no_data": 404}
HSTS = {"Strict-Transport-Security": "max-age=31536000"}


def create_app(doors: Doors, host: str) -> FastAPI:
    """API, pages and, on loopback alone, metrics. host: the address it will listen on."""
    app = FastAPI(
        title="wattveil privacy gateway",
        version="1",
        summary="Raw meter data go in through one door, only protected answers out of another.",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    secured(app, host)
    app.mount("/gateway", StaticFiles(directory=Path(__file__).parent / "static"), name="gateway")
    app.include_router(api.routes(doors))
    app.include_router(pages.routes(doors), include_in_schema=False)
    if is_loopback(host):

        @app.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            return Response(generate_latest(doors.registry), media_type="text/plain")

    @app.middleware("http")
    async def guarded(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        try:
            slowed(doors.address, address(request))
            response = await call_next(request)
        except HTTPException as slow:
            response = _said(request, slow.status_code, str(slow.detail), slow.headers)
        except Exception as error:
            response = failed(request, error)
        route = getattr(request.scope.get("route"), "path", "none")
        doors.requests.labels(route, str(response.status_code)).inc()
        response.headers.update(HEADERS)
        if doors.tls:
            response.headers.update(HSTS)
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, no: Refused) -> Response:
        because = str(no).partition(": ")[2]
        status = STATUS.get(no.reason, 403)
        if _is_api(request):
            body = {"refused": no.reason, "because": because, "rule": no.rule}
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            return JSONResponse(body, status, headers)
        if status == 401:
            return RedirectResponse("/", 303)
        return _said(request, status, f"refused: {because}")

    @app.exception_handler(ValueError)
    async def unusable(request: Request, error: ValueError) -> Response:
        if isinstance(error, UNAVAILABLE):
            return failed(request, error)
        return _said(request, 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Where and why, without the values: they may be secrets.
        wrong = [
            {"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in error.errors()
        ]
        return JSONResponse({"detail": wrong}, 422)

    @app.exception_handler(AnyHTTPException)
    async def plain(request: Request, error: AnyHTTPException) -> Response:
        return _said(request, error.status_code, str(error.detail), error.headers)

    return app


def failed(request: Request, error: Exception) -> Response:
    """503 or 500, and a line in the server's log: what kind of error and where, no values."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    LOG.error(
        "%s in %s line %d", type(error).__name__, Path(where.filename).name, where.lineno or 0
    )
    if isinstance(error, UNAVAILABLE):
        return _said(request, 503, "the gateway cannot answer now: its operator finds out why")
    return _said(request, 500, "the gateway failed, and released nothing")


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(("/api/", "/oauth/", "/openapi"))


def _said(request: Request, status: int, text: str, headers: object = None) -> Response:
    more = dict(headers) if isinstance(headers, dict) else None
    if _is_api(request):
        return JSONResponse({"detail": text}, status, more)
    return Response(
        f'<p class="bad" role="alert">{escape(text)}</p>', status, more, "text/html; charset=utf-8"
    )
