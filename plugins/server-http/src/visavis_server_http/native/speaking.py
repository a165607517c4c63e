"""``POST /v1/sessions/{id}/speak``: a recording, whole or as it is made, to be said by the avatar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from visavis_server_http.desk import Desk
from visavis_server_http.entries import Entry
from visavis_server_http.errors import ApiError
from visavis_server_http.native.models import SpeechGiven
from visavis_server_http.native.sessions import TAG, flag
from visavis_server_http.openapi import About, Parameter, route
from visavis_server_http.requests import Json, allow_body, check_length
from visavis_server_http.sound import Sound
from visavis_server_http.speech import Spoken

STREAMED: Final = 20
"""A stream may be so many times as long as a whole body: it is never held."""
PIECE: Final = 64 * 1024
_SOUND: Final = {"type": "string", "format": "binary"}


def routes(desk: Desk) -> list[BaseRoute]:
    """Its route."""
    wait = Parameter("wait", about="Answer once it has been played.", schema={"type": "boolean"})
    about = About(
        "Say a recording",
        TAG,
        body=dict.fromkeys(("audio/wav", "audio/pcm", "audio/L16", "application/octet-stream"), _SOUND),
        replies={202: SpeechGiven, 200: SpeechGiven},
        errors=(404, 409, 502),
        parameters=(wait,),
    )
    return [route("POST", "/v1/sessions/{id}/speak", Speaking(desk).speak, about)]


class Speaking:
    """The endpoint."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def speak(self, request: Request) -> Response:
        """Say it after what is being said already. The body is WAV (PCM or floating point) or bare int16 samples.

        Bare samples bring their rate: `audio/pcm;rate=24000;channels=1`, or `audio/L16;rate=24000` (big-endian).

        With a Content-Length it is taken whole and answered at once (202); without one (chunked) it is said while it
        comes, and the answer follows its end. With ?wait=true the answer (200) tells how much was played.
        """
        caller = self._desk.authenticate_bearer(request)
        wait = flag(request, "wait")
        entry = self._desk.running(request.path_params["id"], caller)
        sound = Sound(request.headers.get("content-type", ""))
        if "content-length" in request.headers:
            return await self._whole(request, entry, sound, wait)
        allow_body(request, STREAMED * self._desk.settings.max_audio_bytes, streamed=True)
        pieces = _stream(request, sound)
        first = await anext(pieces, None)
        if first is None or sound.format is None:
            raise ApiError(422, "BAD_AUDIO", "the audio cannot be played: there is no sound in it")
        spoken = await self._desk.podium.say(entry, sound.format, _after(first, pieces), wait=wait)
        return _told(spoken, sound, wait=wait)

    async def _whole(self, request: Request, entry: Entry, sound: Sound, wait: bool) -> Response:
        most = self._desk.settings.max_audio_bytes
        allow_body(request, most)
        check_length(request, most)
        with self._desk.podium.holding(_declared(request, most)) as hold:
            body = await request.body()
            checked = Sound(request.headers.get("content-type", ""))
            for at in range(0, len(body), PIECE):
                checked.feed(body[at : at + PIECE])
            checked.end()
            assert checked.format is not None
            if wait:
                spoken = await self._desk.podium.say(entry, checked.format, _pieces(body, sound), wait=True)
                return _told(spoken, checked, wait=True)
            segment = await self._desk.podium.say_later(entry, checked.format, _pieces(body, sound), hold.pop_all())
        return Json(SpeechGiven(segment=segment, status="accepted", seconds=checked.seconds).model_dump(), 202)


def _declared(request: Request, most: int) -> int:
    text = request.headers["content-length"]
    return min(int(text), most) if text.isdigit() and len(text) < 20 else most


async def _stream(request: Request, sound: Sound) -> AsyncIterator[NDArray[Any]]:
    async for data in request.stream():
        for at in range(0, len(data), PIECE):
            piece = sound.feed(data[at : at + PIECE])
            if piece is not None:
                yield piece
    sound.end()


async def _pieces(body: bytes, sound: Sound) -> AsyncIterator[NDArray[Any]]:
    for at in range(0, len(body), PIECE):
        piece = sound.feed(body[at : at + PIECE])
        if piece is not None:
            yield piece


async def _after(first: NDArray[Any], rest: AsyncIterator[NDArray[Any]]) -> AsyncIterator[NDArray[Any]]:
    yield first
    async for piece in rest:
        yield piece


def _told(spoken: Spoken, sound: Sound, *, wait: bool) -> Response:
    if not wait:
        return Json(SpeechGiven(segment=spoken.segment, status="accepted", seconds=sound.seconds).model_dump(), 202)
    given = SpeechGiven(
        segment=spoken.segment,
        status="played" if spoken.played else "interrupted",
        seconds=sound.seconds,
        position_s=spoken.position,
    )
    return Json(given.model_dump())
