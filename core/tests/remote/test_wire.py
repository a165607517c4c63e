"""Messages between processes: whole or not at all, each call answered once, errors with their types."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest
from anyio.abc import UNIXSocketStream
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from visavis.config.problems import DeploymentError
from visavis.errors import (
    AtCapacity,
    AvatarInvalid,
    AvatarNotFound,
    ConfigError,
    FloorRefused,
    SessionError,
    TransportError,
    VisavisError,
)
from visavis.interfaces.session import SessionLimits, SessionRequest
from visavis.metrics import MemoryMetrics
from visavis.remote.figures import MOST_OBSERVED, FiguresIn, FiguresOut
from visavis.remote.telling import error_of, request_of, told_error, told_request
from visavis.remote.wire import MOST_JSON, StreamWire, WireClosed, packed, whole

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(message=st.dictionaries(st.text(), JSON, max_size=5), payload=st.binary(max_size=200), cut=st.integers(1, 50))
def test_a_message_comes_back_whole_or_not_at_all(message: dict[str, Any], payload: bytes, cut: int) -> None:
    data = packed(message, payload)
    assert whole(data) == (message, payload)
    for broken in (data[:-cut], data + b"x", b"\xff" * len(data)):
        with pytest.raises(WireClosed):
            whole(broken)


async def pair() -> tuple[StreamWire, StreamWire, socket.socket]:
    """Two ends of a socket, and a third who may say anything to the first."""
    a, b = socket.socketpair()
    return (
        StreamWire(await UNIXSocketStream.from_socket(a)),
        StreamWire(await UNIXSocketStream.from_socket(b)),
        b,
    )


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_socket_carries_messages_in_order_and_nonsense_ends_it() -> None:
    ours, theirs, _ = await pair()
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ours.send, {"n": number}, bytes(1000 * number))
        heard = [await theirs.receive() for _ in range(50)]
        assert sorted(message["n"] for message, _ in heard) == list(range(50))
        assert all(payload == bytes(1000 * message["n"]) for message, payload in heard)
    await ours._stream.send((MOST_JSON + 1).to_bytes(4, "big") + bytes(4))
    with pytest.raises(WireClosed, match="no message"):
        await theirs.receive()
    await ours.aclose()
    with pytest.raises(WireClosed, match="gone"):
        await theirs.receive()
    await theirs.aclose()
    with pytest.raises(WireClosed, match="gone"):
        await theirs.send({})


class StepError(TransportError):
    """A plugin's own kind."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step


@pytest.mark.parametrize(
    "error, kind",
    [
        (AtCapacity("full", retry_after=7.5), AtCapacity),
        (AvatarInvalid("a.hvia", "it is no zip", hint="pack it"), AvatarInvalid),
        (AvatarNotFound("there is none"), AvatarNotFound),
        (FloorRefused("taken", hint="wait"), FloorRefused),
        (StepError("no room", "join"), TransportError),
        (DeploymentError("file.yaml:2:3: x: unknown option", (), "file.yaml"), ConfigError),
        (ValueError("33 channels"), ValueError),
        (KeyError("the token is abc"), SessionError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_errors_keep_their_kind_and_words(error: Exception, kind: type[Exception]) -> None:
    again = error_of(told_error(error))
    assert type(again) is kind
    if isinstance(error, KeyError):
        assert "abc" not in str(again)  # the words of others may hold anything
        return
    assert str(again) == str(error)
    facts = {name: value for name, value in vars(error).items() if isinstance(value, str | float)}
    assert {name: getattr(again, name) for name in facts} == facts


def test_an_unknown_kind_is_a_session_error() -> None:
    assert type(error_of({"kind": "Nonsense", "facts": {"message": "m"}})) is SessionError
    assert isinstance(error_of({}), VisavisError)


def test_a_request_keeps_its_secrets() -> None:
    request = SessionRequest(
        avatar="ada",
        seed=7,
        transport={"url": "ws://x", "token": SecretStr("t")},
        limits=SessionLimits(idle_timeout_s=3),
    )
    again = request_of(told_request(request))
    assert again.transport == {"url": "ws://x", "token": "t"}
    assert (again.avatar, again.seed, again.limits) == ("ada", 7, request.limits)
    assert "'t'" not in repr(again)


def test_figures_of_two_workers_add_up() -> None:
    here, first, second = MemoryMetrics(), FiguresOut(), FiguresOut()
    total = FiguresIn(here)
    for out, sessions in ((first, 2.0), (second, 3.0)):
        out.count("frames_total", 2)
        out.count("frames_total", 3, codec="vp8")
        out.gauge("sessions", sessions)
        out.observe("step_seconds", 0.5)
        out.observe("step_seconds", 1.5)
    total.add("first", first.take())
    total.add("second", second.take())
    total.add("first", first.take())  # nothing came since
    assert here.total("frames_total") == 10
    assert here.counters[here.key("frames_total", codec="vp8")] == 6
    assert here.gauges[here.key("sessions")] == 5
    assert here.observed[here.key("step_seconds")] == (4, 4.0, 1.5)
    total.forget("second")
    assert here.gauges[here.key("sessions")] == 2


def test_figures_that_nobody_takes_are_bounded_and_counted() -> None:
    out = FiguresOut()
    for _ in range(MOST_OBSERVED + 10):
        out.observe("step_seconds", 0.1)
    rows = out.take()
    assert len(rows["observed"]) == MOST_OBSERVED
    assert rows["counters"] == [["visavis_observations_lost_total", {}, 10.0]]
