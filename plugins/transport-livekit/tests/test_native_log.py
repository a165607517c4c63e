"""The SDK's native log is not carried through the interpreter, unless somebody asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import anyio
import pytest
from visavis.testing.livekit.server import LiveKitServer

pytestmark = pytest.mark.anyio

CHILD = """
import asyncio, sys
from livekit import rtc
from livekit.rtc import _ffi_client
from visavis_transport_livekit.options import LiveKitTransportOptions
from visavis_transport_livekit.transport import LiveKitTransport

lines, level = [], _ffi_client.to_python_level
_ffi_client.to_python_level = lambda given: (lines.append(given), level(given))[1]

async def main(url, token, first):
    room = rtc.Room() if first else None
    if room is not None:
        await room.connect(url, token)
    transport = LiveKitTransport(LiveKitTransportOptions())
    if room is None:
        room = rtc.Room()
        await room.connect(url, token)
    before = len(lines)
    for _ in range(20):
        await room.local_participant.send_text("x" * 1000, topic="elsewhere")
    await asyncio.sleep(0.5)
    print("lines", len(lines) - before, flush=True)
    await room.disconnect()
    await transport.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] == "first"))
"""


async def lines(server: LiveKitServer, room: str, order: str, environment: Mapping[str, str]) -> int:
    """How many lines of the native log reach Python in a process that joins a room and sends data."""
    clean = {k: v for k, v in os.environ.items() if k not in ("RUST_LOG", "LIVEKIT_RTC_DEBUG")}
    with anyio.fail_after(60):
        ran = await anyio.run_process(
            [sys.executable, "-c", CHILD, server.url, server.token(room, "someone"), order],
            env={**clean, **environment},
        )
    assert b"access_token" not in ran.stderr
    (said,) = [line for line in ran.stdout.decode().splitlines() if line.startswith("lines ")]
    return int(said.split()[1])


async def test_it_does_not_reach_python(livekit_server: LiveKitServer, room_name: str) -> None:
    assert await lines(livekit_server, room_name, "last", {}) == 0


@pytest.mark.parametrize("asked", [{"LIVEKIT_RTC_DEBUG": "1"}, {"RUST_LOG": "info"}], ids=lambda e: next(iter(e)))
async def test_it_does_for_those_who_ask(livekit_server: LiveKitServer, room_name: str, asked: dict[str, str]) -> None:
    assert await lines(livekit_server, room_name, "last", asked) > 20


async def test_a_program_that_has_joined_a_room_already_keeps_its_logs(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    assert await lines(livekit_server, room_name, "first", {}) > 20
