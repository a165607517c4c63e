"""A correct transport: it keeps what its sessions were given under their names, as a folder keeps files."""

from __future__ import annotations

from visavis.component import ComponentConfig
from visavis.errors import BadInput
from visavis.interfaces.session import SessionContext
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, VideoFormat, silence
from visavis.testing.fakes import Recorder
from visavis.testing.signals import Readback

NOTHING = Readback(silence(0, 1), 48_000, [])


class KeeperOptions(ComponentConfig):
    """Where a session's result is kept."""

    name: str
    """Its name; an empty one is refused."""


class Keeper(Transport):
    """Keeps what its sessions were given under their names, as a folder keeps files."""

    def __init__(self, kept: dict[str, Readback], made: type[KeepingSession], pacing: Pacing) -> None:
        self.kept, self.made, self.pacing = kept, made, pacing

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        """A new session. Raises BadInput for one without a name."""
        assert isinstance(options, KeeperOptions)
        if not options.name:
            raise BadInput("a session needs a name", hint="write name: hello")
        return self.made(self, options.name, self.pacing)


class KeepingSession(Recorder):
    """A Recorder whose result is kept when it closes, unless it closes with an error."""

    def __init__(self, keeper: Keeper, name: str, pacing: Pacing) -> None:
        super().__init__(pacing)
        self.keeper, self.name = keeper, name

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        """From now on a result, half made, is to be seen."""
        await super().publish(video, audio)
        self.keeper.kept[self.name] = NOTHING

    def keep(self) -> None:
        """Complete the result."""
        lumas = [float(f.video.planes()[0].mean()) for f in self.shown() if f.video is not None]
        rate = self.audio.rate if self.audio is not None else 48_000
        self.keeper.kept[self.name] = Readback(self.sound(), rate, lumas)

    def shown(self) -> list[PairedFrame]:
        """The frames with a picture."""
        return [frame for frame in self.frames if frame.video is not None]

    async def aclose(self, error: BaseException | None = None) -> None:
        """Complete the result, or remove it. Only the first call counts."""
        await super().aclose(error)
        if self.closes == 1:
            if error is None:
                self.keep()
            else:
                self.keeper.kept.pop(self.name, None)
