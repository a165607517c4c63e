"""``/v1/sessions/{id}/speak``: sound of many kinds, whole and as it comes, in turn, and cut off."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

pytestmark = pytest.mark.anyio

PCM = {"content-type": "audio/pcm;rate=16000;channels=1"}
WAV = {"content-type": "audio/wav"}


def tone(seconds: float, rate: int = 16_000) -> bytes:
    """A loud square wave, int16."""
    t = np.arange(int(seconds * rate))
    return (np.where(t // 20 % 2, 12_000, -12_000)).astype("<i2").tobytes()


def wav(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    """The same as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(np.frombuffer(tone(seconds, rate), "<i2"), channels).tobytes())
    return out.getvalue()


def heard(bench: Any, way: int = 0) -> float:
    """Seconds that were loud at the way out (48 kHz)."""
    return float((np.abs(bench.room.ways[way].sound()) > 0.1).any(axis=1).sum() / 48_000)


async def test_a_recording_is_said_to_its_end(serving: Any) -> None:
    async with serving() as bench:
        path = f"/v1/sessions/{(await bench.start())['id']}/speak"
        for rate, channels in ((16_000, 1), (8_000, 1), (44_100, 2), (48_000, 1)):
            reply = await bench.http.post(path, params={"wait": "true"}, content=wav(0.4, rate, channels), headers=WAV)
            assert reply.status_code == 200, reply.text
            said = reply.json()
            assert (said["status"], said["segment"] is not None) == ("played", True)
            assert said["seconds"] == pytest.approx(0.4)
            assert said["position_s"] == pytest.approx(0.4)
        assert heard(bench) == pytest.approx(1.6, abs=0.05)


async def test_a_whole_body_is_answered_before_it_is_said(serving: Any) -> None:
    async with serving() as bench:
        made = await bench.start()
        path = f"/v1/sessions/{made['id']}/speak"
        # Each waits for its turn: nothing of an earlier one is lost.
        for _ in range(3):
            reply = await bench.http.post(path, content=tone(0.3), headers=PCM)
            assert reply.status_code == 202
            assert reply.json() | {"segment": None} == {
                "segment": None, "status": "accepted", "seconds": 0.3, "position_s": None,
            }  # fmt: skip
        last = await bench.http.post(path, params={"wait": "1"}, content=tone(0.3), headers=PCM)
        assert last.json()["status"] == "played"
        assert heard(bench) == pytest.approx(1.2, abs=0.05)
        assert (await bench.http.get(f"/v1/sessions/{made['id']}")).json()["stats"]["segments"] == 4


async def test_sound_is_said_while_it_comes(serving: Any) -> None:
    async with serving() as bench:
        path = f"/v1/sessions/{(await bench.start())['id']}/speak"
        way, begun = bench.room.ways[0], anyio.Event()

        async def body() -> AsyncIterator[bytes]:
            whole = wav(1.0)
            for at in range(0, len(whole) // 2, 1_001):
                yield whole[at : at + 1_001]
            while not np.abs(way.sound()[-4_800:]).any():  # noqa: ASYNC110
                await anyio.sleep(0.02)
            begun.set()
            for at in range(len(whole) // 2 // 1_001 * 1_001 + 1_001, len(whole), 4_001):
                yield whole[at : at + 4_001]

        reply = await bench.http.post(path, params={"wait": "true"}, content=body(), headers=WAV)
        assert begun.is_set()
        assert (reply.status_code, reply.json()["status"]) == (200, "played")
        assert reply.json()["position_s"] == pytest.approx(1.0, abs=0.02)


async def test_an_interrupt_ends_what_is_said_and_what_waits(serving: Any) -> None:
    async with serving() as bench:
        made = await bench.start()
        path, replies = f"/v1/sessions/{made['id']}", []

        async def speak() -> None:
            replies.append(
                await bench.http.post(f"{path}/speak", params={"wait": "true"}, content=tone(20), headers=PCM)
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            tasks.start_soon(speak)
            while heard(bench) < 0.2:  # noqa: ASYNC110
                await anyio.sleep(0.02)
            assert (await bench.http.post(f"{path}/interrupt")).json() == {"status": "interrupted"}
        assert [reply.json()["status"] for reply in replies] == ["interrupted", "interrupted"]
        positions = sorted(reply.json()["position_s"] for reply in replies)
        assert positions[0] == 0
        assert 0.1 < positions[1] < 10
        # And the next one is heard.
        after = await bench.http.post(f"{path}/speak", params={"wait": "true"}, content=tone(0.2), headers=PCM)
        assert after.json()["status"] == "played"


async def test_the_end_of_the_session_ends_a_stream(serving: Any) -> None:
    async with serving() as bench:
        path = f"/v1/sessions/{(await bench.start())['id']}"
        head = f"POST {path}/speak?wait=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PCM['content-type']}\r\n"
        piece = tone(0.1)
        answer = b""
        async with await anyio.connect_tcp(*bench.server.address) as stream:
            await stream.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            async with anyio.create_task_group() as tasks:

                async def send_for_ever() -> None:
                    while True:
                        await stream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                        await anyio.sleep(0.05)

                tasks.start_soon(send_for_ever)
                while heard(bench) < 0.2:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
                await bench.http.delete(path)
                with anyio.fail_after(30):
                    while b'"status":"interrupted"' not in answer:
                        answer += await stream.receive()
                tasks.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 200")


async def test_sound_that_cannot_be_played(serving: Any) -> None:
    def riff(*chunks: tuple[bytes, bytes]) -> bytes:
        body = b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body

    def fmt(code: int, channels: int, rate: int, bits: int) -> tuple[bytes, bytes]:
        return b"fmt ", struct.pack("<HHIIHH", code, channels, rate, 0, 0, bits)

    nan = np.full(100, np.nan, "<f4").tobytes()
    cases = [
        (b"", "audio/mpeg", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"x", "", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"x", "audio/;;;=", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (tone(0.1), "audio/pcm", 400, "MISSING_PARAMETER"),
        (tone(0.1), "audio/pcm;rate=fast", 422, "INVALID_PARAMETER"),
        (tone(0.1), "audio/pcm;rate=1", 422, "BAD_AUDIO"),
        (tone(0.1), "audio/pcm;rate=16000;channels=0", 422, "BAD_AUDIO"),
        (tone(0.1), "audio/pcm;rate=16000;channels=99", 422, "BAD_AUDIO"),
        (b"", "audio/pcm;rate=16000", 422, "BAD_AUDIO"),
        (b"x", "audio/pcm;rate=16000", 422, "BAD_AUDIO"),
        (b"", "audio/wav", 422, "BAD_AUDIO"),
        (b"RI", "audio/wav", 422, "BAD_AUDIO"),
        (b"this is no recording at all", "audio/wav", 422, "BAD_AUDIO"),
        (wav(0.1)[:30], "audio/wav", 422, "BAD_AUDIO"),
        (riff((b"data", b"1234")), "audio/wav", 422, "BAD_AUDIO"),
        (riff(fmt(1, 1, 16_000, 16)), "audio/wav", 422, "BAD_AUDIO"),
        (riff((b"fmt ", b"short"), (b"data", b"1234")), "audio/wav", 422, "BAD_AUDIO"),
        (riff(fmt(85, 1, 16_000, 16), (b"data", b"1234")), "audio/wav", 415, "UNSUPPORTED_AUDIO"),
        (riff(fmt(1, 0, 16_000, 16), (b"data", b"1234")), "audio/wav", 422, "BAD_AUDIO"),
        (riff(fmt(3, 1, 16_000, 32), (b"data", nan)), "audio/wav", 422, "BAD_AUDIO"),
        (b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\xff" + b"0" * 64, "audio/wav", 422, "BAD_AUDIO"),
    ]
    async with serving() as bench:
        made = await bench.start()
        path = f"/v1/sessions/{made['id']}/speak"

        async def chunked(content: bytes) -> AsyncIterator[bytes]:
            for at in range(0, len(content), 7):
                yield content[at : at + 7]

        for content, kind, status, code in cases:
            for wait in ("true", "false"):
                for body in (content, chunked(content)):
                    headers = {"content-type": kind}
                    reply = await bench.http.post(path, params={"wait": wait}, content=body, headers=headers)
                    assert bench.told(reply) == (status, code), (content[:40], kind)
        assert bench.told(await bench.http.post(path, params={"wait": "perhaps"}, content=b"", headers=PCM))[0] == 422
        assert bench.told(await bench.http.post("/v1/sessions/none/speak", content=tone(0.1), headers=PCM))[0] == 404
        # The session lives, and speaks.
        fine = await bench.http.post(path, params={"wait": "true"}, content=tone(0.2), headers=PCM)
        assert fine.json()["status"] == "played"


async def test_every_coding_sounds_alike(serving: Any) -> None:
    rate = 16_000
    t = np.arange(rate // 5)
    square = np.where(t // 20 % 2, 0.5, -0.5)
    three = np.zeros((len(t), 4), np.uint8)
    three[:, :4] = (square * 2**31).astype("<i4").view(np.uint8).reshape(-1, 4)
    codings = [
        (1, 8, (square * 128 + 128).astype(np.uint8).tobytes()),
        (1, 16, (square * 32768).astype("<i2").tobytes()),
        (1, 24, three[:, 1:].tobytes()),
        (1, 32, (square * 2**31).astype("<i4").tobytes()),
        (3, 32, square.astype("<f4").tobytes()),
        (3, 64, square.astype("<f8").tobytes()),
    ]
    bodies = [
        (b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, code, 1, rate, 0, 0, bits) + b"data\0\0\0\0" + data, WAV)
        for code, bits, data in codings
    ]
    swapped = (square * 32768).astype(">i2").tobytes()
    bodies.append((swapped, {"content-type": f"audio/L16;rate={rate}"}))
    async with serving() as bench:
        path = f"/v1/sessions/{(await bench.start())['id']}/speak"
        for content, headers in bodies:
            before = len(bench.room.ways[0].sound())
            reply = await bench.http.post(path, params={"wait": "true"}, content=content, headers=headers)
            assert (reply.status_code, reply.json()["status"]) == (200, "played"), reply.text
            assert reply.json()["position_s"] == pytest.approx(0.2)
            sound = bench.room.ways[0].sound()[before:]
            assert np.abs(sound).max() == pytest.approx(0.5, abs=0.15)  # resampling rings


async def test_too_much_that_waits_is_refused(serving: Any) -> None:
    async with serving(max_audio_bytes=400_000) as bench:
        path = f"/v1/sessions/{(await bench.start())['id']}/speak"
        replies = [await bench.http.post(path, content=tone(10), headers=PCM) for _ in range(12)]
        codes = [reply.status_code for reply in replies]
        assert codes[0] == 202
        assert set(codes[-2:]) <= {429, 503}
        assert all("retry-after" in reply.headers for reply in replies if reply.status_code != 202)
        assert bench.told(await bench.http.post(path, content=tone(13), headers=PCM)) == (413, "BODY_TOO_LARGE")
