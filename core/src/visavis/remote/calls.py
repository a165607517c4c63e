"""Calls over a wire: each is answered once, a caller that leaves cancels it, and nothing is lost in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import anyio

from visavis.remote.telling import error_of
from visavis.remote.wire import Message, Wire, WireClosed

CANCELLING_SECONDS: Final = 2.0
"""How long a caller that leaves waits to hear that the call was undone."""


class _Call:
    """A call that waits for its answer."""

    def __init__(self, method: str, late: Callable[[Any], None] | None) -> None:
        self.method, self.late = method, late
        self.answered = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self.abandoned = False
        """Whether its caller wants no answer any more."""
        self.gone = False
        """Whether its caller has stopped waiting for it to be undone."""


class Calls:
    """The calls of one end. Whoever receives hands answers to ``answer``, and calls ``fail`` when the wire is gone."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Call] = {}
        self._gone: Exception | None = None

    def abandoned(self, method: str) -> int:
        """How many calls of a method are not answered yet although their caller has left."""
        return sum(call.method == method and call.gone for call in self._waiting.values())

    async def call(
        self, method: str, *, payload: bytes = b"", late: Callable[[Any], None] | None = None, **arguments: Any
    ) -> Any:
        """Call and return the answer.

        Raises the other end's error, what ``fail`` was told, or WireClosed if the call was never sent.
        An answer that comes when the caller has left goes to ``late``, for it to be undone.
        """
        if self._gone is not None:
            raise WireClosed(str(self._gone))
        number, call = next(self._numbers), _Call(method, late)
        self._waiting[number] = call
        try:
            await self._wire.send({"call": number, "method": method, **arguments}, payload)
            await call.answered.wait()
        except WireClosed:  # it was not sent: nothing has begun
            self._waiting.pop(number, None)
            raise
        except anyio.get_cancelled_exc_class():
            call.abandoned = True
            await self._cancel(number, call)
            raise
        if call.error is not None:
            raise call.error
        return call.result

    async def _cancel(self, number: int, call: _Call) -> None:
        if call.answered.is_set():  # in the same turn of the loop: nobody has looked at it
            self._late(call)
            return
        with anyio.move_on_after(CANCELLING_SECONDS, shield=True):
            try:
                await self._wire.send({"cancel": number})
            except WireClosed:
                self._waiting.pop(number, None)
                return
            await call.answered.wait()
        call.gone = True

    def answer(self, message: Message) -> None:
        """Take an answer that has come."""
        call = self._waiting.pop(int(message["answer"]), None)
        if call is None:
            return
        if (error := message.get("error")) is not None:
            call.error = error_of(error)
        else:
            call.result = message.get("result")
        call.answered.set()
        if call.abandoned:
            self._late(call)

    @staticmethod
    def _late(call: _Call) -> None:
        if call.error is None and call.late is not None:
            call.late(call.result)

    def fail(self, error: Exception) -> None:
        """The wire is gone: every call ends with this error, those to come too."""
        self._gone = error
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            call.error = error
            call.answered.set()
