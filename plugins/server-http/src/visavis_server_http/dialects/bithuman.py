"""bitHuman's self-hosted container, as ``livekit-plugins-bithuman`` with ``api_url`` and its guide ask for it.

``/launch`` takes a form (the plugin's model "expression": Bearer) or JSON (its other models: header api-secret), and
``?async=`` in its URL as the plugin reads it. A task is a session; a launch that brings an image is refused.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Annotated, Any, Final, Literal

import anyio
from pydantic import BeforeValidator, Field, SecretStr, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from visavis import workers
from visavis.errors import MediaError

from visavis_server_http import wall
from visavis_server_http.desk import Ask, Desk
from visavis_server_http.dialects.picture import jpeg_of
from visavis_server_http.dialects.words import Given, Said, Secret, Words, needed, nothing
from visavis_server_http.doorkeeper import bearer_of
from visavis_server_http.entries import Entry
from visavis_server_http.errors import ApiError, invalid
from visavis_server_http.keys import Caller
from visavis_server_http.openapi import About, Parameter, route
from visavis_server_http.requests import Json, allow_body, content_type, read_form, read_json

DIALECT = "bithuman"
TAG = "bitHuman"
DEFAULT_AVATAR: Final = "mira"
"""Who comes if a launch names nobody."""
SECURITY: Final = ("bearer", "apiSecret")
MOST_ITERATIONS: Final = 100
KEPT_S: Final = 10.0
"""Seconds for which a benchmark is answered with the last one's figures: it takes time from those who talk."""
STATUS: Final = {"starting": "pending"}
"""Where bitHuman's word for a task's status differs from ours."""


class Launch(Words):
    """A launch, as form and JSON spell it; ``livekit_url`` and ``livekit_token`` are needed."""

    livekit_url: Said = None
    """The LiveKit server."""
    livekit_token: Secret = None
    """The token that the avatar joins with."""
    room_name: Said = None
    """The room; the token's word counts."""
    avatar_id: Said = None
    """Whose face (form); by default mira."""
    agent_id: Said = None
    """Whose face (JSON); by default mira."""
    async_mode: Annotated[bool | None, BeforeValidator(nothing)] = None
    """Whether to answer before the avatar is in the room; by default yes."""
    avatar_image_url: Said = None
    """An image to make an avatar of: refused, and never fetched."""
    avatar_image: Annotated[Any, Field(json_schema_extra={"type": "string", "format": "binary"})] = None
    """The image itself: refused."""
    image: Said = None
    """An image in Base64, or its URL: refused."""
    model: Said = None
    """Passed over: an avatar's file says what draws it."""
    mode: Said = None
    """Passed over."""
    prompt: Said = None
    """Passed over."""
    api_secret: Secret = None
    """Passed over: the header counts."""


class Launched(Given):
    """A task that was begun."""

    status: str
    """pending, or running where async_mode was false."""
    task_id: str
    """The task's id."""
    room_name: str
    """The room."""


class Task(Given):
    """A task."""

    task_id: str
    """Its id."""
    room_name: str
    """The room."""
    status: Literal["pending", "running", "completed", "failed", "cancelled"]
    """Where it stands; cancelled is what a client stopped."""
    created_at: str
    """When it was asked for (UTC)."""
    completed_at: str | None
    """When it ended (UTC)."""
    error: str | None
    """What went wrong, if something did."""


class Tasks(Given):
    """Your tasks, oldest first; ended ones are forgotten after a while."""

    tasks: list[Task]
    """The tasks."""


class Benchmark(Given):
    """How long pictures take now, beside the sessions that run."""

    iterations: int
    """How often it was measured."""
    frames_per_generate: int = 1
    """Pictures in one measurement."""
    avg_ms: float
    """Milliseconds a measurement, on average."""
    median_ms: float
    """The same, the middle one."""
    fps: float
    """Pictures a second."""
    vram_gb: float | None = None
    """Memory of the GPU; null: not known."""
    gpu: str | None = None
    """The GPU's name; null: not known."""


def routes(desk: Desk) -> list[BaseRoute]:
    """The dialect's routes."""
    container = Container(desk)
    one = "/tasks/{task_id}"
    about = partial(About, tag=TAG, security=SECURITY)
    forms = dict.fromkeys(("multipart/form-data", "application/x-www-form-urlencoded", "application/json"), Launch)
    launch = about(
        "Start a session, in bitHuman's words",
        body=forms,
        replies={200: Launched},
        errors=(403, 404, 409, 502, 503),
        parameters=(Parameter("async", about="As async_mode.", schema={"type": "boolean"}),),
    )
    times = Parameter("iterations", about="How many pictures.", schema={"type": "integer", "minimum": 1})
    benchmark = about("Measure", replies={200: Benchmark}, errors=(404, 409, 422, 502), parameters=(times,))
    picture = about("Draw one picture", replies={200: ("image/jpeg", {"type": "string"})}, errors=(404, 422))
    return [
        route("POST", "/launch", container.launch, launch),
        route("GET", "/tasks", container.list_tasks, about("List tasks", replies={200: Tasks})),
        route("GET", one, container.get_task, about("Look at a task", replies={200: Task}, errors=(404,))),
        route("POST", f"{one}/stop", container.stop_task, about("End a task", replies={200: Task}, errors=(404,))),
        route("POST", "/benchmark", container.run_benchmark, benchmark),
        route("GET", "/test-frame", container.test_frame, picture),
    ]


class Container:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._measuring = anyio.Lock()
        self._measured: tuple[float, list[float]] | None = None

    def _caller(self, request: Request) -> Caller:
        """By Bearer or api-secret, whichever is there. Raises ApiError 401 or 429."""
        return self._desk.authenticate_secret(bearer_of(request) or request.headers.get("api-secret"))

    async def launch(self, request: Request) -> Response:
        """Answered at once, when all is checked that can be; with async_mode=false, once the avatar is in the room.

        The same token again finds the same task. A launch for an identity that is in the room already replaces it.
        """
        caller = self._caller(request)
        # Long enough for an image, so that who brings one hears that it is not supported rather than too long.
        allow_body(request, max(self._desk.settings.max_body_bytes, self._desk.settings.max_image_bytes))
        said = await self._read(request)
        ask = Ask(
            avatar=said.avatar_id or said.agent_id or DEFAULT_AVATAR,
            livekit_url=needed("livekit_url", said.livekit_url),
            livekit_token=SecretStr(needed("livekit_token", said.livekit_token)),
            room=said.room_name,
            replace=True,  # as in theirs, where the newer participant drives the older one out
        )
        asynchronous = _asynchronous(request, said)
        entry = await self._desk.start(ask, caller=caller, dialect=DIALECT, wait=not asynchronous)
        given = Launched(status=STATUS.get(entry.status, entry.status), task_id=entry.id, room_name=entry.room)
        return Json(given.model_dump())

    async def _read(self, request: Request) -> Launch:
        if content_type(request) == "application/json":
            said = await read_json(request, Launch)
            form = FormData()
        else:
            said, form = await read_form(request, Launch)
        try:
            if said.avatar_image_url or said.image or said.avatar_image or any(map(_is_file, form.values())):
                url = next((text for text in (said.avatar_image_url, said.image) if text and "://" in text[:8]), None)
                raise self._desk.image_refused(url)
        finally:
            await form.close()
        return said

    async def list_tasks(self, request: Request) -> Response:
        """Your tasks, oldest first."""
        mine = self._desk.entries(self._caller(request))
        return Json(Tasks(tasks=[task_of(entry) for entry in mine if entry.dialect == DIALECT]).model_dump())

    async def get_task(self, request: Request) -> Response:
        """One task."""
        return Json(task_of(self._found(request, self._caller(request))).model_dump())

    async def stop_task(self, request: Request) -> Response:
        """Answered once the avatar has left; a task that has ended already stays as it is."""
        caller = self._caller(request)
        entry = await self._desk.stop(self._found(request, caller).id, caller)
        return Json(task_of(entry).model_dump())

    def _found(self, request: Request, caller: Caller) -> Entry:
        try:
            return self._desk.find(request.path_params["task_id"], caller)
        except ApiError as error:
            raise ApiError(404, "TASK_NOT_FOUND", "there is no task of that id", error.details) from None

    async def run_benchmark(self, request: Request) -> Response:
        """Draws pictures for nobody. Asked again within ten seconds it gives the same figures."""
        self._caller(request)
        iterations = _whole(request.query_params.get("iterations", "10"))
        async with self._measuring:
            now = anyio.current_time()
            if self._measured is None or now - self._measured[0] > KEPT_S:
                self._measured = now, await self._desk.rehearse(DEFAULT_AVATAR, min(iterations, MOST_ITERATIONS))
            took = [1000 * seconds for seconds in self._measured[1]]
        given = Benchmark(
            iterations=len(took),
            avg_ms=round(statistics.fmean(took), 3),
            median_ms=round(statistics.median(took), 3),
            fps=round(1000 / statistics.fmean(took), 1),
        )
        return Json(given.model_dump())

    async def test_frame(self, request: Request) -> Response:
        """The avatar of a launch that names nobody, at rest."""
        self._caller(request)
        with await self._desk.open_avatar(DEFAULT_AVATAR) as avatar:
            try:
                picture = await workers.run(jpeg_of, avatar)
            except MediaError as error:
                raise ApiError(422, "AVATAR_INVALID", str(error)) from None
        return Response(picture, media_type="image/jpeg")


def task_of(entry: Entry) -> Task:
    """A session as a task."""
    created = wall.stamp(entry.created_at)
    assert created is not None
    return Task(
        task_id=entry.id,
        room_name=entry.room,
        status=STATUS.get(entry.status, entry.status),  # type: ignore[arg-type]
        created_at=created,
        completed_at=wall.stamp(entry.finished_at),
        error=entry.error,
    )


def _is_file(value: str | UploadFile) -> bool:
    return isinstance(value, UploadFile) and bool(value.filename or value.size)


def _asynchronous(request: Request, said: Launch) -> bool:
    """The body's word, else the query's; both as FastAPI reads a bool. Raises ApiError 422."""
    if said.async_mode is not None:
        return said.async_mode
    asked = request.query_params.get("async") or None
    try:
        return asked is None or TypeAdapter(bool).validate_python(asked)
    except ValidationError:
        raise invalid("async", "true or false") from None


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise invalid("iterations", "a whole number above 0")
    return int(text)
