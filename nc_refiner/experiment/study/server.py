"""The study's page as a FastAPI application."""

from __future__ import annotations

import hashlib
import logging
from importlib.resources import files
from typing import Annotated, Any, Literal

import jinja2
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ...pages import look
from ..store.health import StoreReplacedError
from .guard import Buckets, Guard
from .questions import QUESTIONS
from .sessions import ALIAS_LENGTH, Gallery, alias_of, anonymous, cookie_of, rater_of
from .votes import VoteBook

__all__ = ["create_app"]

log = logging.getLogger(__name__)

STATIC = {"study.js": "text/javascript", "study.css": "text/css"}
LOOK = "look.css"
A_YEAR = 365 * 86_400
LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewRater(_Body):
    """Who comes to vote; without an alias, someone new."""

    alias: Annotated[str, Field(min_length=1, max_length=4 * ALIAS_LENGTH)] | None = None


class Answer(_Body):
    """One answer of the rater whose cookie it comes with."""

    pair: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{20}$")]
    question: Literal["consistency", "quality", "texture"]
    choice: Literal["a", "b"]
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=False)]


def create_app(gallery: Gallery, book: VoteBook, hosts: list[str], rate: float = 20.0, burst: float = 200.0) -> FastAPI:
    """The application.

    Args:
        gallery: what is shown.
        book: where votes go.
        hosts: names and addresses that it may be asked under.
        rate, burst: requests per second and at once that one address may make.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Guard, buckets=Buckets(rate, burst))
    folder = files(__package__).joinpath("page")
    static = {name: (folder.joinpath(name).read_bytes(), kind) for name, kind in STATIC.items()}
    static[LOOK] = look().encode(), "text/css"
    page = _page(folder.joinpath("study.html").read_text(encoding="utf-8"))
    # Cookies know no port: two studies on one machine must not take each other's raters.
    cookie = f"rater_{hashlib.sha256(gallery.study.secret.encode()).hexdigest()[:8]}"

    def known(request: Request) -> str:
        rater = rater_of(request.cookies.get(cookie, ""))
        if rater is None:
            raise HTTPException(401, "say who you are first")
        return rater

    def state(rater: str) -> JSONResponse:
        return JSONResponse(gallery.state(rater, book), headers={"cache-control": "no-store"})

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where}: {first['msg']}" if where else first["msg"]}, 422)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    @app.exception_handler(StoreReplacedError)
    @app.exception_handler(SQLAlchemyError)
    def unreachable(request: Request, error: Exception) -> Response:
        log.warning("the store cannot be reached: %s", error)
        return JSONResponse({"error": "not saved: the database cannot be reached"}, 503)

    @app.get("/")
    def index() -> Response:
        return HTMLResponse(page, headers={"cache-control": "no-store"})

    @app.get("/static/{name}")
    def asset(name: str) -> Response:
        if name not in static:
            raise HTTPException(404, "there is no such file")
        content, kind = static[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/api/state")
    def where(request: Request) -> Response:
        if rater_of(request.cookies.get(cookie, "")) is None:
            return JSONResponse({"rater": None}, headers={"cache-control": "no-store"})
        return state(known(request))

    @app.post("/api/rater")
    def enter(body: NewRater) -> Response:
        try:
            rater = anonymous() if body.alias is None else alias_of(body.alias)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        answer = state(rater)
        answer.set_cookie(cookie, cookie_of(rater), max_age=A_YEAR, httponly=True, samesite="strict")
        return answer

    @app.post("/api/leave")
    def leave() -> Response:
        answer = JSONResponse({"left": True})
        answer.delete_cookie(cookie, httponly=True, samesite="strict")
        return answer

    @app.post("/api/vote")
    def vote(body: Answer, request: Request) -> Response:
        rater = known(request)
        comparison = gallery.comparisons(rater).get(body.pair)
        if comparison is None:
            raise HTTPException(404, "this comparison is not one of yours")
        book.put(gallery.vote(rater, comparison, body.question, body.choice, body.seconds))
        return JSONResponse({"saved": True}, headers={"cache-control": "no-store"})

    @app.get("/clip/{name}")
    def clip(name: str, request: Request) -> Response:
        path = gallery.clip(known(request), name)
        if path is None:
            raise HTTPException(404, "there is no such clip")
        # The file's own date would say which arm was made first.
        headers = {"cache-control": "private, max-age=86400", "last-modified": LONG_AGO, "etag": f'"{name}"'}
        return FileResponse(path, media_type="video/mp4", headers=headers)

    return app


def _page(template: str) -> str:
    environment: Any = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text: str = environment.from_string(template).render(questions=QUESTIONS, alias_length=ALIAS_LENGTH)
    return text
