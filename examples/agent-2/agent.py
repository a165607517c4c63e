"""Make an avatar speak from outside: a recording, a synthesizer or a microphone, and nothing but LiveKit's SDK.

    python agent.py --file speech.wav          a recording: 16 bit WAV of any rate; "-" reads it from stdin
    python agent.py --text "Good morning."     a synthesizer: espeak-ng, or any command that writes a WAV (--tts)
    python agent.py --microphone               your own voice, phrase by phrase
    python agent.py                            what you type, line by line

Enter (an empty line) or Ctrl-C interrupts the avatar; Ctrl-C again leaves.
LIVEKIT_URL names the server. LIVEKIT_TOKEN is this participant's token; without it LIVEKIT_API_KEY, LIVEKIT_API_SECRET
and --room make one.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import contextlib
import io
import json
import os
import shlex
import signal
import sys
import wave
from collections.abc import AsyncIterator, Coroutine
from typing import Any, BinaryIO

from livekit import api, rtc

CHUNK_SECONDS = 0.1
AHEAD_SECONDS = 5.0  # a stream is delivered at once, however long it is: send no more of it than is soon said
LOUD, HANG_SECONDS = 500, 0.8  # a phrase begins with a sample louder than that, and ends after so much silence


class Avatar:
    """The avatar in the room, as seen from here: it is told what to say, and tells what was heard."""

    def __init__(self, room: rtc.Room, identity: str) -> None:
        self.room, self.identity = room, identity
        self.there, self.gone = asyncio.Event(), asyncio.Event()
        self.speaking = asyncio.Event()  # it has been heard
        self.silence = asyncio.Event()  # set by an interrupt: what is being sent is of no use any more
        self.under_way = 0
        self._finished = asyncio.Condition()
        self._reading: set[asyncio.Task[None]] = set()
        room.on("track_published", lambda publication, participant: self._look())
        room.on("participant_disconnected", lambda participant: self._left(participant.identity))
        room.on("disconnected", lambda reason: self._left(identity))
        room.register_text_stream_handler("visavis.error", self._refused)

    async def join(self, url: str, token: str) -> None:
        """Join the room and wait until the avatar is seen."""
        await self.room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        local = self.room.local_participant
        local.register_rpc_method("lk.playback_started", self._started)
        local.register_rpc_method("lk.playback_finished", self._ended)
        self._look()
        if not self.there.is_set():
            say(f"waiting for {self.identity}")
        await self.there.wait()

    async def speak(self, pcm: AsyncIterator[bytes], rate: int, channels: int) -> None:
        """Send one segment: int16 samples, channels interleaved. Returns once all is sent, or it was interrupted."""
        self.silence.clear()
        stream = await self.room.local_participant.stream_bytes(
            name="speech",
            topic="lk.audio_stream",
            destination_identities=[self.identity],
            attributes={"sample_rate": str(rate), "num_channels": str(channels)},
        )
        self.under_way += 1
        try:
            begin, sent = asyncio.get_running_loop().time(), 0.0
            async for chunk in pcm:
                await stream.write(chunk)
                sent += len(chunk) / (2 * channels * rate)
                wait = begin + sent - AHEAD_SECONDS - asyncio.get_running_loop().time()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.silence.wait(), max(0.0, wait))
                if self.silence.is_set() or self.gone.is_set():
                    break
        finally:
            await stream.aclose()

    async def interrupt(self) -> None:
        """Have it fall silent."""
        self.silence.set()
        try:
            await self.room.local_participant.perform_rpc(
                destination_identity=self.identity, method="lk.clear_buffer", payload=""
            )
        except rtc.RpcError as error:
            if not self.gone.is_set():  # who leaves as soon as it is silent does not wait for the answer to this call
                say(f"could not interrupt: {error.message}")

    async def finished(self) -> None:
        """Wait until all that was sent has been heard or cut off."""
        async with self._finished:
            await self._finished.wait_for(lambda: self.under_way == 0 or self.gone.is_set())

    def _look(self) -> None:
        them = self.room.remote_participants.get(self.identity)
        tracks = them.track_publications.values() if them is not None else ()
        if any(track.kind == rtc.TrackKind.KIND_VIDEO for track in tracks):
            self.there.set()

    def _left(self, identity: str) -> None:
        if identity == self.identity and not self.gone.is_set():
            say("the avatar is gone")
            self.gone.set()
            self.do(self._wake())

    async def leave(self) -> None:
        """Leave the room."""
        self.gone.set()
        await self.room.disconnect()

    def _started(self, call: rtc.RpcInvocationData) -> str:
        say("speaking")
        self.speaking.set()
        return "ok"

    async def _ended(self, call: rtc.RpcInvocationData) -> str:
        how = json.loads(call.payload)
        say(f"{'interrupted' if how['interrupted'] else 'finished'} at {how['playback_position']:.2f} s")
        self.under_way -= 1
        await self._wake()
        return "ok"

    async def _wake(self) -> None:
        async with self._finished:
            self._finished.notify_all()

    def _refused(self, reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            say(f"refused: {json.loads(await reader.read_all())['error']}")

        self.do(read())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)


# -- where speech comes from


def wav(file: str | BinaryIO) -> tuple[AsyncIterator[bytes], int, int]:
    """A WAV file's samples, its rate and channels."""
    try:
        source = wave.open(file, "rb")  # noqa: SIM115 - it is read to its end below
    except (wave.Error, EOFError) as error:
        raise SystemExit(f"this is no WAV file that can be read here: {error}") from None
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None
    if source.getsampwidth() != 2:
        raise SystemExit("the WAV file is not of 16 bit: ffmpeg -i speech.wav -c:a pcm_s16le speech16.wav")
    count = max(1, round(source.getframerate() * CHUNK_SECONDS))

    async def samples() -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(source.readframes, count):
            yield chunk

    return samples(), source.getframerate(), source.getnchannels()


async def synthesized(text: str, command: str) -> tuple[AsyncIterator[bytes], int, int]:
    """What a synthesizer makes of a text; the text is the command's last argument."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), text, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise SystemExit(
            f"{command} cannot be run: {error.strerror}; install espeak-ng or name another with --tts"
        ) from None
    sound, _ = await process.communicate()
    return wav(io.BytesIO(sound))


async def microphone() -> AsyncIterator[rtc.AudioFrame]:
    """The default microphone, through LiveKit's echo and noise cancellation, 10 ms at a time."""
    heard: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue(maxsize=100)
    try:
        capture = rtc.MediaDevices().open_input()
    except (ImportError, OSError, AttributeError) as error:
        raise SystemExit(f"no microphone: {error} (pip install sounddevice, apt install libportaudio2)") from None
    capture.source.capture_frame = heard.put  # the SDK hands every frame to a track; there is none here
    try:
        while True:
            yield await heard.get()
    finally:
        await capture.aclose()


class Phrases:
    """Cuts endless sound into phrases: what is between silences, with the 0.3 s before it."""

    def __init__(self, frames: AsyncIterator[rtc.AudioFrame]) -> None:
        self._frames = frames
        self._before: list[bytes] = []

    async def begun(self) -> bytes:
        """Wait for a phrase; the sound it begins with."""
        async for frame in self._frames:
            self._before = [*self._before[-30:], bytes(frame.data)]
            if loud(frame):
                break
        return b"".join(self._before)

    async def phrase(self, begin: bytes) -> AsyncIterator[bytes]:
        """The sound of a phrase, to its end."""
        yield begin
        quiet = 0.0
        async for frame in self._frames:
            yield bytes(frame.data)
            quiet = 0.0 if loud(frame) else quiet + frame.duration
            if quiet > HANG_SECONDS:
                return


def loud(frame: rtc.AudioFrame) -> bool:
    """Whether somebody speaks in it."""
    return max(map(abs, array.array("h", bytes(frame.data)))) > LOUD


# -- the program


async def lend_voice(avatar: Avatar) -> None:
    """Speak with the microphone until the avatar leaves."""
    phrases = Phrases(microphone())
    say("speak")
    while not avatar.gone.is_set():
        begin = await phrases.begun()
        await avatar.speak(phrases.phrase(begin), 48_000, 1)


async def typed(avatar: Avatar, lines: asyncio.Queue[str | None], tts: str) -> None:
    """Say every line that is typed, until the end of the input."""
    say("type, and I say it")
    while (line := await lines.get()) is not None and not avatar.gone.is_set():
        await avatar.speak(*await synthesized(line, tts))
    await avatar.finished()


def read_lines(avatar: Avatar) -> asyncio.Queue[str | None]:
    """Lines of stdin as they come; an empty one interrupts. None is the end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1_000)
    rest = b""

    def take(data: bytes) -> None:
        nonlocal rest
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if text := line.decode(errors="replace").strip():
                lines.put_nowait(text)
            else:
                avatar.do(avatar.interrupt())
        if not data:
            lines.put_nowait(None)

    def readable() -> None:
        data = os.read(0, 65_536)
        if not data:
            loop.remove_reader(0)
        take(data)

    try:
        loop.add_reader(0, readable)
    except (OSError, NotImplementedError):  # a file, or Windows
        take(sys.stdin.buffer.read())
        take(b"")
    return lines


async def run(options: argparse.Namespace) -> None:
    """Join, speak, leave."""
    avatar = Avatar(rtc.Room(), options.avatar)
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None

    def stop() -> None:
        if avatar.under_way and not avatar.silence.is_set():
            avatar.do(avatar.interrupt())
        else:
            me.cancel()

    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await avatar.join(*credentials(options))
        lines = None if options.file == "-" else read_lines(avatar)
        if options.interrupt_after is not None:
            avatar.do(interrupt_after(avatar, options.interrupt_after))
        if options.microphone:
            await lend_voice(avatar)
        elif options.file or options.text:
            for _ in range(options.times):
                await avatar.speak(*await speech(options))
                await avatar.finished()
        elif lines is not None:
            await typed(avatar, lines, options.tts)
    except asyncio.CancelledError:
        say("leaving")
    finally:
        await avatar.leave()


async def interrupt_after(avatar: Avatar, seconds: float) -> None:
    """Interrupt once, so long after it has begun to speak."""
    await avatar.speaking.wait()
    await asyncio.sleep(seconds)
    await avatar.interrupt()


async def speech(options: argparse.Namespace) -> tuple[AsyncIterator[bytes], int, int]:
    """What the command line asks for."""
    if options.text:
        return await synthesized(options.text, options.tts)
    return wav(sys.stdin.buffer if options.file == "-" else options.file)


def credentials(options: argparse.Namespace) -> tuple[str, str]:
    """The server's address, and a token for this participant."""
    url = os.environ.get("LIVEKIT_URL")
    if not url:
        raise SystemExit("set LIVEKIT_URL to the address of a LiveKit server, such as ws://127.0.0.1:7880")
    return url, os.environ.get("LIVEKIT_TOKEN") or minted(options.identity, options.room)


def minted(identity: str, room: str) -> str:
    """A token that lets somebody into a room."""
    key, secret = os.environ.get("LIVEKIT_API_KEY"), os.environ.get("LIVEKIT_API_SECRET")
    if not key or not secret:
        raise SystemExit("set LIVEKIT_TOKEN, or LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    grants = api.VideoGrants(room_join=True, room=room, can_update_own_metadata=True)
    return str(api.AccessToken(key, secret).with_identity(identity).with_grants(grants).to_jwt())


def say(what: str) -> None:
    """Tell whoever runs this."""
    print(what, flush=True)  # noqa: T201


def arguments() -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--file", metavar="WAV", help="say a recording")
    what.add_argument("--text", help="say a text")
    what.add_argument("--microphone", action="store_true", help="say what you say")
    what.add_argument("--token-for", metavar="IDENTITY", help="print a token for the room, and do nothing else")
    parser.add_argument("--avatar", default="avatar", metavar="IDENTITY", help="who is to speak (default: avatar)")
    parser.add_argument("--identity", default="speaker", help="who you are (default: speaker)")
    parser.add_argument("--room", default="visavis", help="the room, where a token is made here (default: visavis)")
    parser.add_argument("--tts", default="espeak-ng --stdout", metavar="COMMAND", help="default: espeak-ng --stdout")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="say it so often")
    parser.add_argument("--interrupt-after", type=float, metavar="SECONDS", help="interrupt once, by itself")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    if options.token_for:
        say(minted(options.token_for, options.room))
    else:
        asyncio.run(run(options))
        os._exit(0)  # all is closed and said; the SDK's threads may abort the interpreter on its way out
