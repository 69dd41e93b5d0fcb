"""The HTTP side: OpenAI's `POST /v1/images/generations`, plain or as events, and the state.

Events are those of OpenAI (`image_generation.partial_image`, `image_generation.completed`), and
`image_generation.progress` with `step`, `total_steps` and `elapsed_s` between them.
"""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from .requests import BadRequest, ImageRequest, read_request
from .worker import Ended, Event, Job, Picture, Preview, QueueFull, Step, Worker

# Proxies close connections on which nothing is said for a minute.
_SILENCE_S = 15.0
_MOST_BODY_BYTES = 4_000_000
_BUSY_RETRY_S = 5


class Server:
    """The routes of one worker."""

    def __init__(self, worker: Worker, name: str, folder: str, api_key: str | None) -> None:
        self._worker, self._name, self._folder = worker, name, folder
        self._authorization = f"Bearer {api_key}".encode() if api_key else None
        self._created = int(time.time())

    def app(self) -> Any:
        @contextlib.asynccontextmanager
        async def life(_app: Any) -> AsyncIterator[None]:
            self._worker.start()
            try:
                yield
            finally:
                self._worker.end()

        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/metrics", self.metrics),
                Route("/v1/models", self.models),
                Route("/v1/images/generations", self.generate, methods=["POST"]),
                Route("/v1/images/edits", self.no_edits, methods=["POST"]),
                Route("/v1/images/variations", self.no_edits, methods=["POST"]),
            ],
            lifespan=life,
        )

    async def health(self, _request: Request) -> Response:
        """200 when pictures can be made, 503 on the way there."""
        state = self._worker.state
        status = 200 if state.is_ready else 503
        said = {"phase": state.phase, "progress": state.progress, "message": state.message}
        return JSONResponse(said, status)

    async def metrics(self, _request: Request) -> Response:
        totals = self._worker.totals
        lines = [
            f"meshtui_images_total {totals.pictures}",
            f"meshtui_image_steps_total {totals.steps}",
            f"meshtui_image_requests_cancelled_total {totals.cancelled}",
            f"meshtui_image_requests_failed_total {totals.failed}",
            f"meshtui_image_busy_seconds_total {totals.busy_s:.3f}",
            f"meshtui_image_requests_waiting {self._worker.waiting}",
        ]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def models(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        model = {
            "id": self._name,
            "object": "model",
            "created": self._created,
            "owned_by": "meshtui",
            "root": self._folder,
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def no_edits(self, request: Request) -> Response:
        return self._refused(request) or _error(
            400, "This server makes pictures from text only: it changes none that exist.", "image"
        )

    async def generate(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        pipeline = self._worker.pipeline
        if pipeline is None:
            state = self._worker.state
            return _error(503, f"{state.phase}: {state.message}")
        try:
            body = await _body(request)
            model = body.get("model") if isinstance(body, dict) else None
            if model not in (None, self._name):
                return _error(404, f"The model `{str(model)[:200]}` does not exist.", "model")
            wanted = read_request(body, pipeline.limits)
        except BadRequest as refusal:
            return _error(400, refusal.message, refusal.param)
        except ClientDisconnect:
            return Response(status_code=499)
        try:
            job = self._worker.submit(wanted)
        except QueueFull:
            answer = _error(429, "As many requests wait as this server takes: try again soon.")
            answer.headers["Retry-After"] = str(_BUSY_RETRY_S)
            return answer
        if wanted.streamed:
            return StreamingResponse(_stream(job), media_type="text/event-stream")
        return await _whole_answer(job, request)

    def _refused(self, request: Request) -> Response | None:
        if self._authorization is None:
            return None
        given = request.headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self._authorization):
            return None
        return _error(401, "The key in the header `Authorization` is not this server's.")


async def _body(request: Request) -> Any:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MOST_BODY_BYTES:
            raise BadRequest(f"The body has over {_MOST_BODY_BYTES:,} bytes.")
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON.") from None


async def _whole_answer(job: Job, request: Request) -> Response:
    """All pictures in one answer; who hangs up meanwhile cancels the making."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.cancelled.set()

    watching = asyncio.create_task(hung_up())
    pictures: list[dict[str, Any]] = []
    try:
        while not isinstance(event := await job.events.get(), Ended):
            if isinstance(event, Picture):
                pictures.append(_picture(event))
    finally:
        job.cancelled.set()
        watching.cancel()
    if event.error is not None:
        return _error(event.status, event.error)
    answer = {"created": int(time.time()), "data": pictures, **_facts(job.request)}
    return JSONResponse(answer | {"elapsed_s": round(event.elapsed_s, 4)})


async def _stream(job: Job) -> AsyncIterator[str]:
    try:
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    event = await job.events.get()
            except TimeoutError:
                yield ": still at it\n\n"
                continue
            if isinstance(event, Ended):
                if event.error is not None:
                    yield _sent("error", {"error": _error_body(event.status, event.error, None)})
                yield "data: [DONE]\n\n"
                return
            yield _said(event, job.request)
    finally:
        job.cancelled.set()


def _said(event: Event, request: ImageRequest) -> str:
    if isinstance(event, Step):
        said = {
            "step": event.done,
            "total_steps": event.total,
            "elapsed_s": round(event.elapsed_s, 4),
        }
        return _sent("image_generation.progress", said)
    facts = {"created_at": int(time.time()), **_facts(request)}
    if isinstance(event, Preview):
        shown = {
            "b64_json": base64.b64encode(event.data).decode(),
            "partial_image_index": event.index,
            "image_index": event.number,
        }
        return _sent("image_generation.partial_image", facts | shown)
    assert isinstance(event, Picture)
    done = {**_picture(event), "image_index": event.number}
    return _sent("image_generation.completed", facts | done)


def _sent(kind: str, body: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"


def _picture(event: Picture) -> dict[str, Any]:
    return {"b64_json": base64.b64encode(event.made.data).decode(), "seed": event.made.seed}


def _facts(request: ImageRequest) -> dict[str, Any]:
    size = f"{request.width_px}x{request.height_px}"
    return {"size": size, "output_format": request.format, "steps": request.steps}


def _error(status: int, message: str, param: str | None = None) -> Response:
    return JSONResponse({"error": _error_body(status, message, param)}, status)


def _error_body(status: int, message: str, param: str | None) -> dict[str, Any]:
    kinds = {401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
    kind = kinds.get(status) or ("BadRequestError" if status < 500 else "InternalServerError")
    return {"message": message, "type": kind, "param": param, "code": status}
