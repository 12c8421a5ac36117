"""The HTTP side: a FastAPI application over the desk."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .._version import __version__
from ..files import FileError
from .asking import Refused, check_clip, settings_of, suffix_of, unit_of
from .config import Server
from .desk import Closed, Desk, Full, Place
from .fetch import FetchError, Prefix, TooLarge, fetch
from .jobs import FINISHED, Job, JobFolder
from .metrics import Metrics
from .openapi import JOB_BODY, JobView, Problem, explained, page
from .tokens import Gate

__all__ = ["create_app"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
OVERHEAD = 1 << 16
"""Bytes of a request beside the clip: settings, boundaries."""
SOON = {"retry-after": "2"}
LATER = {"retry-after": "30"}
GOES = {401: Problem, 404: Problem}


def create_app(
    server: Server,
    folder: JobFolder,
    desk: Desk,
    arm_of: Callable[[str], str],
    ready: Callable[[], dict[str, int]],
    metrics: Metrics,
    token: str | None,
    hosts: frozenset[str] | None,
) -> FastAPI:
    """The application.

    Args:
        server: the section of the file. folder, desk: where jobs are kept, and done.
        arm_of: unit → the arm whose workers do its jobs.
        ready: arm → running replicas, as last seen.
        metrics: what `/metrics` shows.
        token, hosts: as in `Gate`.
    """
    app = FastAPI(
        title="nc_refiner",
        version=__version__,
        summary="Refine clips and keep their content.",
        description=explained(server, token is not None),
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Gate, token=token, hosts=hosts)
    prefixes = [Prefix.parsed(text, server.private_urls) for text in server.url_prefixes]
    most = int(server.max_megabytes * 1e6)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        if request.method == "POST":
            metrics.refused(error.status)
        return JSONResponse({"error": str(error)}, error.status, headers=error.headers)

    @app.exception_handler(StarletteHTTPException)
    def unknown(request: Request, error: StarletteHTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(FileError)
    def no_room(request: Request, error: FileError) -> Response:
        log.error("%s", error)
        return JSONResponse({"error": "the server's disk takes no more; try again later"}, 507, headers=LATER)

    def job_named(name: str) -> Job:
        job = desk.get(name)
        if job is None:
            raise Refused(404, "there is no such job; results are kept for a while only")
        return job

    @app.post(
        "/v1/jobs",
        status_code=202,
        response_model=JobView,
        openapi_extra=JOB_BODY,
        tags=["jobs"],
        summary="Hand in a clip",
        responses={code: {"model": Problem} for code in (413, 422, 429, 503, 507)},
    )
    async def hand_in(request: Request) -> Response:
        """A clip as a file, or by a URL that this server fetches from. The answer names the job; ask for it until it
        is done."""
        try:
            with desk.place() as place:
                incoming = folder.incoming()
                try:
                    job = await _taken(request, incoming, place)
                finally:
                    shutil.rmtree(incoming, ignore_errors=True)
        except Closed:
            raise Refused(503, "the server is about to end and takes no more jobs; try again soon", LATER) from None
        except Full as error:
            raise Refused(429, str(error), {"retry-after": str(error.retry_after)}) from None
        except ClientDisconnect:
            raise Refused(400, "the request ended before the clip had come") from None
        except OSError as error:
            raise FileError(f"{folder.root}: {error.strerror or error}") from None
        return JSONResponse(view(job), 202, headers={"location": f"/v1/jobs/{job.id}", **SOON})

    async def _taken(request: Request, incoming: Path, place: Place) -> Job:
        unit = unit_of(request.headers, server)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        clip = incoming / "clip"
        if kind == "multipart/form-data":
            try:
                name, settings = await asyncio.wait_for(_uploaded(request, clip), server.upload_seconds)
            except asyncio.TimeoutError:
                raise Refused(408, f"the clip did not come within {server.upload_seconds:g} seconds") from None
        elif kind == "application/json":
            name, settings = await _by_url(request, clip)
        else:
            raise Refused(415, "send multipart/form-data with the file `clip`, or application/json with a `url`")
        own, seed = settings_of(settings, server)
        named = clip.rename(incoming / f"clip{suffix_of(name)}")
        await run_in_threadpool(check_clip, named, server)
        job = Job.new(unit, arm_of(unit), named.suffix, own, seed)
        await run_in_threadpool(desk.submit, place, job, incoming, named)
        return job

    async def _uploaded(request: Request, clip: Path) -> tuple[str, Any]:
        form = await Request(request.scope, _limited(request, most + OVERHEAD)).form(
            max_files=1, max_fields=4, max_part_size=OVERHEAD
        )
        try:
            unknown_fields = sorted(set(form) - {"clip", "settings"})
            if unknown_fields:
                raise Refused(422, f"unknown field {unknown_fields[0]!r}; send clip and settings")
            found, settings = form.get("clip"), form.get("settings")
            if not isinstance(found, UploadFile):
                raise Refused(422, "the file `clip` is missing")
            if isinstance(settings, UploadFile):
                raise Refused(422, "settings: send JSON as a field, not as a file")
            if (found.size or 0) > most:
                raise Refused(413, f"the clip is larger than {server.max_megabytes:g} MB, the most this server takes")
            with clip.open("wb") as file:
                while block := await found.read(BLOCK):
                    await run_in_threadpool(file.write, block)
            return found.filename or "", settings
        finally:
            await form.close()

    async def _by_url(request: Request, clip: Path) -> tuple[str, Any]:
        try:
            body = json.loads(
                b"".join([part async for part in Request(request.scope, _limited(request, OVERHEAD)).stream()])
            )
        except (ValueError, RecursionError):
            raise Refused(422, "the body is not JSON") from None
        if not isinstance(body, dict) or set(body) - {"url", "settings"} or not isinstance(body.get("url"), str):
            raise Refused(422, 'send {"url": "https://…", "settings": {…}}')
        if not prefixes:
            raise Refused(422, "url: this server fetches no clips; send the file")
        settings_of(body.get("settings"), server)
        try:
            await run_in_threadpool(fetch, body["url"], prefixes, clip, most, server.url_seconds)
        except TooLarge as error:
            raise Refused(413, f"{error}: {server.max_megabytes:g} MB") from None
        except FetchError as error:
            raise Refused(422, str(error)) from None
        return body["url"].partition("?")[0], body.get("settings")

    def _limited(request: Request, limit: int) -> Any:
        """The request's body, refused (413) before more than `limit` bytes of it have come."""
        stated = request.headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > limit:
            raise Refused(413, f"the clip is larger than {server.max_megabytes:g} MB, the most this server takes")
        came = 0

        async def receive() -> Message:
            nonlocal came
            message = await request.receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise Refused(413, f"the clip is larger than {server.max_megabytes:g} MB, the most this server takes")
            return message

        return receive

    @app.get(
        "/v1/jobs/{job_id}", response_model=JobView, responses=_problems(404), tags=["jobs"], summary="Ask for a job"
    )
    def ask(job_id: str) -> Response:
        """Its state and how far it is."""
        job = job_named(job_id)
        return JSONResponse(view(job), headers={} if job.state in FINISHED else SOON)

    def finished(job: Job) -> None:
        if job.state not in FINISHED:
            raise Refused(409, f"the job is {job.state}; ask again until it is done", SOON)
        if job.state != "done":
            raise Refused(
                409,
                f"the job has no result, it {job.state if job.state == 'failed' else 'was cancelled'}"
                f"{': ' + job.error if job.error else ''}",
            )

    @app.get(
        "/v1/jobs/{job_id}/result",
        response_class=FileResponse,
        responses=_problems(404, 409),
        tags=["jobs"],
        summary="Fetch the refined clip",
    )
    def result(job_id: str) -> Response:
        """An mp4, or a png where a picture was handed in."""
        job = job_named(job_id)
        finished(job)
        path = folder.result(job)
        kind = "image/png" if path.suffix == ".png" else "video/mp4"
        return FileResponse(path, media_type=kind, filename=f"{job.id}{path.suffix}")

    @app.get("/v1/jobs/{job_id}/receipt", responses=_problems(404, 409), tags=["jobs"], summary="Fetch the receipt")
    def receipt(job_id: str) -> Response:
        """What was run, as JSON: settings, seed, content loss, seconds, versions."""
        job = job_named(job_id)
        finished(job)
        return FileResponse(folder.receipt(job), media_type="application/json")

    @app.delete(
        "/v1/jobs/{job_id}", response_model=JobView, responses=_problems(404), tags=["jobs"], summary="Cancel a job"
    )
    def cancel(job_id: str) -> Response:
        """One that waits is taken out at once, one that runs ends at its next step. One that is over stays as it is."""
        job = job_named(job_id)
        if job.state not in FINISHED:
            desk.cancel(job)
        return JSONResponse(view(job))

    @app.get("/healthz", tags=["watching"], summary="Whether the server is alive")
    async def healthz() -> dict[str, str]:
        """Always 200 while it can answer."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["watching"], summary="Whether jobs are taken", responses={503: {}})
    async def readyz() -> Response:
        """503 while it ends, or while an arm has no replica."""
        replicas = ready()
        down = sorted(name for name, count in replicas.items() if not count)
        if not desk.open:
            return JSONResponse({"status": "ending", "replicas": replicas}, 503, headers=LATER)
        if down:
            return JSONResponse({"status": f"no worker: {', '.join(down)}", "replicas": replicas}, 503, headers=SOON)
        return JSONResponse({"status": "ready", "replicas": replicas})

    @app.get("/metrics", tags=["watching"], summary="Numbers for Prometheus")
    async def numbers() -> Response:
        """Jobs `nc_refiner_serve_*`, arms `nc_refiner_ab_*`."""
        text = await asyncio.to_thread(metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    shown = ""

    @app.get("/docs", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def docs() -> Response:
        nonlocal shown
        shown = shown or page(app.openapi())
        return HTMLResponse(shown)

    return app


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


def view(job: Job) -> dict[str, Any]:
    """A job as its client sees it: without the arm, and without anyone's id."""
    here = f"/v1/jobs/{job.id}"
    links = {"self": here}
    if job.state == "done":
        links |= {"result": f"{here}/result", "receipt": f"{here}/receipt"}
    return {
        "id": job.id,
        "state": job.state,
        "progress": 1.0 if job.state == "done" else round(job.done / job.total, 4) if job.total else 0.0,
        "settings": {**job.settings, "seed": job.seed},
        "error": job.error,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "links": links,
    }
