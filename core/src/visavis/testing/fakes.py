"""Small correct parts for unit tests and for the conformance kit: they need no engine, file or network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction

import anyio
import numpy as np

from visavis.component import ComponentConfig
from visavis.errors import AvatarInvalid, BadInput
from visavis.hvia import Hvia
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderFormat, RenderInput, RenderSession
from visavis.interfaces.session import SessionContext, SpeechStream
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, VideoFormat, VideoFrame, silence


class FakeRenderSession(RenderSession):
    """Remembers the last ``look_ahead + 1`` loudnesses and counts what it was asked for."""

    def __init__(self, look_ahead: int) -> None:
        self.heard = [0.0] * (look_ahead + 1)
        self.drawn = 0
        self.resets = 0
        self.rewound = 0
        self.closed = False

    def rewind(self, pictures: int) -> None:
        """Count them."""
        self.rewound += pictures

    def reset(self) -> None:
        """Forget what was heard."""
        self.heard = [0.0] * len(self.heard)
        self.resets += 1

    def close(self) -> None:
        """Mark as closed."""
        self.closed = True


class FakeAvatar(LoadedAvatar):
    """A grey picture whose luma is the loudness of the sound that belongs to it; U is the count of drawn frames."""

    def __init__(self, format: RenderFormat, key: Hashable = "fake") -> None:
        self._format, self.key = format, key
        self.delay = format.look_ahead
        """Steps by which its pictures follow their sound."""
        self.made: type[FakeRenderSession] = FakeRenderSession
        self.on_close: Callable[[], None] = lambda: None
        self.sessions: list[FakeRenderSession] = []

    @property
    def format(self) -> RenderFormat:
        """What it draws and hears."""
        return self._format

    @property
    def batch_key(self) -> Hashable:
        """Equal for avatars made with the same key."""
        return self.key

    def open(self, *, seed: int = 0) -> FakeRenderSession:
        """A new session."""
        session = self.made(self.delay)
        self.sessions.append(session)
        return session

    def close(self) -> None:
        """Nothing to let go of; tells whoever asked."""
        self.on_close()


class FakeRenderer(Renderer):
    """Draws loudness: luma 16 + 200 * RMS of the slice that is ``look_ahead`` steps old."""

    max_batch = 16

    def __init__(self, fps: int = 10, look_ahead: int = 1) -> None:
        self._render = RenderFormat(VideoFormat(16, 16, Fraction(fps)), 16_000, 16_000 // fps, look_ahead)
        self.batches: list[int] = []

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        """Any file of engine graphs/1 gives the same avatar. Raises AvatarInvalid for another engine."""
        if avatar is not None and avatar.manifest.engine not in self.engines:
            raise AvatarInvalid(avatar.path.name, f"it needs the engine {avatar.manifest.engine!r}")
        return FakeAvatar(self._render)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick."""
        self.batches.append(len(sessions))
        return [self._one(s, i) for s, i in zip(sessions, inputs, strict=True)]

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        assert isinstance(session, FakeRenderSession)
        assert not session.closed
        level = 0.0
        if given.pcm is not None:
            assert given.pcm.shape == (self._render.hop,)
            session.heard = [*session.heard[1:], float(np.sqrt(np.mean(given.pcm**2)))]
            level = session.heard[0]
        if not given.draw:
            return None
        data = np.full((24, 16), 128, np.uint8)
        data[:16] = int(16 + 200 * min(1.0, level))
        data[16:20] = session.drawn % 256
        session.drawn += 1
        return VideoFrame(16, 16, data)


class Recorder(TransportSession):
    """Keeps every frame it was given; in real time it plays them on the loop's clock through a small buffer."""

    def __init__(
        self, pacing: Pacing = Pacing.ASAP, audio: AudioFormat | None = None, buffer_seconds: float = 0.1
    ) -> None:
        self._pacing, self._wanted, self._buffer = pacing, audio, buffer_seconds
        self.frames: list[PairedFrame] = []
        self.times: list[float] = []
        self.video: VideoFormat | None = None
        self.audio: AudioFormat | None = None
        self.flushed_at: list[int] = []
        self.flushed_samples = 0
        self.error: BaseException | None = None
        self.closes = 0
        self._end = 0.0  # when all that was taken will have been played
        self.far_end_gone = anyio.Event()
        self.announced: list[dict[str, str]] = []
        self.context: SessionContext | None = None

    @property
    def pacing(self) -> Pacing:
        """As it was made."""
        return self._pacing

    @property
    def audio_format(self) -> AudioFormat | None:
        """As it was made; real time needs one from the start."""
        if self._pacing is Pacing.REALTIME:
            return self._wanted or AudioFormat(48_000, 1)
        return self._wanted

    async def open(self, context: SessionContext) -> None:
        """Keep the context."""
        self.context = context

    async def announce(self, **facts: str) -> None:
        """Keep what the far end is told."""
        self.announced.append(facts)

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        """Note the formats."""
        self.video, self.audio = video, audio

    async def present(self, frame: PairedFrame) -> None:
        """Keep the frame; in real time wait while more than the buffer is held."""
        assert self.audio is not None, "present before publish"
        if self._pacing is Pacing.REALTIME:
            await anyio.sleep(max(0.0, self._held_seconds() - self._buffer))
            self._end = max(self._end, anyio.current_time()) + len(frame.audio) / self.audio.rate
        self.frames.append(frame)
        self.times.append(anyio.current_time())

    def _held_seconds(self) -> float:
        return max(0.0, self._end - anyio.current_time())

    def held(self) -> int:
        """Samples taken and not played yet."""
        return round(self._held_seconds() * self.audio.rate) if self.audio is not None else 0

    async def flush(self) -> None:
        """Throw away what is held."""
        self.flushed_at.append(len(self.frames))
        self.flushed_samples += self.held()
        self._end = 0.0

    async def drain(self) -> None:
        """Wait until all has been played."""
        if self._pacing is Pacing.REALTIME:
            await anyio.sleep_until(self._end)

    async def closed(self) -> str:
        """Until the test says that the far end is gone."""
        await self.far_end_gone.wait()
        return "the far end is gone"

    async def aclose(self, error: BaseException | None = None) -> None:
        """Count the calls, keep the error."""
        self.closes += 1
        self.error = error

    def sound(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """All the sound in order, ``[samples, channels]``."""
        parts = [f.audio for f in self.frames]
        return np.concatenate(parts) if parts else silence(0, 1)


class RecorderTransport(Transport):
    """Makes Recorders and remembers them."""

    def __init__(self, pacing: Pacing = Pacing.ASAP, audio: AudioFormat | None = None) -> None:
        self._pacing, self._audio = pacing, audio
        self.made: list[Recorder] = []

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> Recorder:
        """A new Recorder."""
        self.made.append(Recorder(self._pacing, self._audio))
        return self.made[-1]


class TalkingSource(AudioSource):
    """Says given sound, a segment for each array ``[samples, channels]``, in pieces of 100 ms.

    Raises BadInput if it has nothing to say.
    """

    def __init__(self, utterances: Sequence[Pcm], rate: int = 16_000) -> None:
        if not utterances:
            raise BadInput("there is nothing to say", hint="give at least one utterance")
        self.utterances, self.rate = utterances, rate
        self.closes = 0

    async def run(self, speech: SpeechWriter) -> None:
        """Say one after the other, each when the one before has been played."""
        for pcm in self.utterances:
            segment = await speech.open(self.rate, pcm.shape[1])
            await self.say(segment, pcm)
            await segment.end()
            await segment.wait_finished()

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        """Write one utterance."""
        step = self.rate // 10
        for at in range(0, len(pcm), step):
            await segment.write(pcm[at : at + step])

    async def aclose(self) -> None:
        """Count the calls."""
        self.closes += 1
