"""What is served under which address: two pages, what they show as JSON, and their style and script."""

import json
import math
from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.dashboard.guard import DATA, Guard
from orchestrator.dashboard.job_row import Shown
from orchestrator.dashboard.kept import Reading
from orchestrator.dashboard.overview import without_older
from orchestrator.dashboard.pages import Pages
from orchestrator.jobs.bucket import UnknownJob
from orchestrator.spec.names import is_job_name

PATIENCE_S = 2.0
"""So long an answer waits for the store, before it brings what was read before."""

_TYPES: Final = {
    "overview.html": "text/html",
    "job.html": "text/html",
    "dashboard.css": "text/css",
    "dashboard.mjs": "text/javascript",
    "charts.mjs": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def application(pages: Pages, port: int, fault: Callable[[Exception], None]) -> ASGIApp:
    """The dashboard, for whoever serves it on this port."""

    def overview_data(request: Request) -> Response:
        reading = pages.overview(PATIENCE_S)
        page = reading.value
        if page is not None and "all" not in request.query_params:
            page = without_older(page, pages.now())
        return _as_json(request, reading, page)

    def job_data(request: Request) -> Response:
        reading = pages.job(_job_name(request), PATIENCE_S)
        if isinstance(reading.error, UnknownJob):
            raise HTTPException(404, str(reading.error))
        return _as_json(request, reading, reading.value)

    def overview_page(request: Request) -> Response:
        return _file(request, "overview.html")

    def job_page(request: Request) -> Response:
        _job_name(request)
        return _file(request, "job.html")

    def static(request: Request) -> Response:
        return _file(request, request.path_params["name"])

    routes = [
        Route("/", overview_page),
        Route("/jobs/{job}", job_page),
        Route(f"{DATA}overview", overview_data),
        Route(f"{DATA}jobs/{{job}}", job_data),
        Route("/static/{name}", static),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False
    return Guard(app, port, fault)


def _job_name(request: Request) -> str:
    """Nothing else than a name gets further: it becomes part of keys."""
    name = str(request.path_params["job"])
    if not is_job_name(name):
        raise HTTPException(404, "There is no such job.")
    return name


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


def _as_json(request: Request, reading: Reading[Shown], page: Shown | None) -> Response:
    """What there is, and why nothing newer. How old it is stands in `Age`: else no two answers would be the same."""
    trouble = "" if reading.error is None else str(reading.error)
    body = json.dumps({"trouble": trouble, "page": None if page is None else page.model_dump(mode="json")})
    headers = {"Cache-Control": "no-store"}
    if reading.age_s is not None:
        headers["Age"] = str(math.floor(reading.age_s))
    return _unless_known(request, body.encode(), "application/json", headers)


def _file(request: Request, name: str) -> Response:
    if name not in _TYPES:
        raise HTTPException(404, "There is no such page.")
    body = (files("orchestrator.dashboard") / "static" / name).read_bytes()
    return _unless_known(request, body, _TYPES[name], {"Cache-Control": "no-cache"})


def _unless_known(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """The body; 304 without it where the browser has just this."""
    headers["ETag"] = f'"{sha256(body).hexdigest()[:32]}"'
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
