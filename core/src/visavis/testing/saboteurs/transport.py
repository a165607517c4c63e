"""Correct transports, one of each pacing, and transports that break one promise each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import anyio
import numpy as np

from visavis.component import ComponentConfig
from visavis.interfaces.session import SessionContext
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, VideoFormat, silence
from visavis.testing import transport as checks
from visavis.testing.saboteurs.keeper import NOTHING, Keeper, KeeperOptions, KeepingSession
from visavis.testing.signals import Readback
from visavis.testing.transport import TRANSPORT
from visavis.testing.way_out import TransportCase


def correct(folder: Path, made: type[KeepingSession] = KeepingSession, pacing: Pacing = Pacing.ASAP) -> TransportCase:
    """A transport that keeps every promise; or one whose sessions do not."""
    kept: dict[str, Readback] = {}
    names = count()

    def named(options: ComponentConfig) -> str:
        assert isinstance(options, KeeperOptions)
        return options.name

    return TransportCase(
        make=lambda: Keeper(kept, made, pacing),
        options=lambda: KeeperOptions(name=f"session-{next(names)}"),
        readback=lambda session, options: kept.get(named(options), NOTHING),
        leftovers=lambda options: [name for name in kept if name == named(options)],
        wrong=lambda: KeeperOptions(name=""),
        buffer=0.2,
        patience=3.0,
    )


def correct_realtime(folder: Path, made: type[KeepingSession] = KeepingSession) -> TransportCase:
    """One that plays by the clock; many pictures a second, so that the checks are over soon."""
    return replace(correct(folder, made, Pacing.REALTIME), video=VideoFormat(64, 48, Fraction(100)))


class _ChangesItsMind(KeepingSession):
    """Says that it sleeps, once it has been published."""

    @property
    def pacing(self) -> Pacing:
        return Pacing.ASAP if self.audio is None else Pacing.REALTIME

    async def present(self, frame: PairedFrame) -> None:
        self.frames.append(frame)


@TRANSPORT.breaks(checks.declares_its_pacing)
def changes_its_mind(folder: Path) -> TransportCase:
    """The pipeline had already chosen its presenter."""
    return correct(folder, _ChangesItsMind)


class _WaitsForAFrame(KeepingSession):
    """Publishes with the first frame, for which it waits a while."""

    def __init__(self, keeper: Keeper, name: str, pacing: Pacing) -> None:
        super().__init__(keeper, name, pacing)
        self.first = anyio.Event()

    async def present(self, frame: PairedFrame) -> None:
        self.first.set()
        await super().present(frame)

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        await super().publish(video, audio)
        with anyio.move_on_after(5.0):
            await self.first.wait()


@TRANSPORT.breaks(checks.publishes_without_a_frame)
def waits_for_a_frame(folder: Path) -> TransportCase:
    """Neither side begins."""
    return correct(folder, _WaitsForAFrame)


class _HoldsItsBreath(KeepingSession):
    """Says nothing until somebody hears it, who never does."""

    async def announce(self, **facts: str) -> None:
        await self.far_end_gone.wait()


@TRANSPORT.breaks(checks.tells_and_plays_on)
def holds_its_breath(folder: Path) -> TransportCase:
    """The session hangs while it tells that it ends."""
    return correct(folder, _HoldsItsBreath)


class _Stutters(KeepingSession):
    """Plays, after two seconds, one frame's sound in place of the next one's."""

    async def present(self, frame: PairedFrame) -> None:
        if frame.index == 50:
            frame = replace(frame, audio=self.frames[-1].audio)
        await super().present(frame)


@TRANSPORT.breaks(checks.every_sample_arrives)
def stutters(folder: Path) -> TransportCase:
    """As many samples arrive, but not the right ones."""
    return correct(folder, _Stutters)


class _LosesThePicture(KeepingSession):
    """Forgets the last picture."""

    def shown(self) -> list[PairedFrame]:
        return super().shown()[:-1]


class _SwapsPictures(KeepingSession):
    """Shows two pictures in the wrong order."""

    def shown(self) -> list[PairedFrame]:
        frames = super().shown()
        frames[4:6] = reversed(frames[4:6])
        return frames


@TRANSPORT.breaks(checks.every_picture_arrives)
def loses_the_picture(folder: Path) -> TransportCase:
    """The video is a frame shorter than its sound."""
    return correct(folder, _LosesThePicture)


@TRANSPORT.breaks(checks.every_picture_arrives)
def swaps_pictures(folder: Path) -> TransportCase:
    """The mouth jumps."""
    return correct(folder, _SwapsPictures)


class _MixesDown(KeepingSession):
    """Keeps one channel only."""

    def sound(self) -> Pcm:
        return super().sound()[:, :1]


@TRANSPORT.breaks(checks.keeps_the_sound_format)
def mixes_down(folder: Path) -> TransportCase:
    """Stereo becomes mono."""
    return correct(folder, _MixesDown)


class _CountsOn(KeepingSession):
    """Goes on counting down when all has been played."""

    def held(self) -> int:
        if self.audio is None or not self._end:
            return 0
        return round((self._end - anyio.current_time()) * self.audio.rate)


@TRANSPORT.breaks(checks.holds_no_less_than_nothing)
def counts_on(folder: Path) -> TransportCase:
    """Positions run ahead of what was heard."""
    return correct_realtime(folder, _CountsOn)


class _KeepsPlaying(KeepingSession):
    """Plays what it has to its end, whoever cuts in."""

    async def flush(self) -> None:
        """Nothing."""


@TRANSPORT.breaks(checks.flush_empties_it)
def keeps_playing(folder: Path) -> TransportCase:
    """After an interrupt it is still heard."""
    return correct_realtime(folder, _KeepsPlaying)


class _WaitsForTheFlush(KeepingSession):
    """Waits, when it is flushed, for a player that says so only if there was something to throw away."""

    async def flush(self) -> None:
        if len(self.frames) == (self.flushed_at[-1] if self.flushed_at else 0):
            await anyio.sleep_forever()
        await super().flush()


@TRANSPORT.breaks(checks.flushes_what_is_empty)
def waits_for_the_flush(folder: Path) -> TransportCase:
    """Cutting in twice hangs the session."""
    return correct(folder, _WaitsForTheFlush)


class _FlushedForGood(KeepingSession):
    """Discards everything from the first flush on."""

    async def present(self, frame: PairedFrame) -> None:
        if not self.flushed_at:
            await super().present(frame)


@TRANSPORT.breaks(checks.plays_on_after_a_flush)
def flushed_for_good(folder: Path) -> TransportCase:
    """After an interrupt it is never heard again."""
    return correct(folder, _FlushedForGood)


@TRANSPORT.breaks(checks.plays_on_after_a_flush)
def flushed_for_good_realtime(folder: Path) -> TransportCase:
    """The same, found by what it holds."""
    return replace(correct_realtime(folder, _FlushedForGood), readback=None)


class _DrainsAtOnce(KeepingSession):
    """Does not wait for what is still to be played."""

    async def drain(self) -> None:
        """Nothing."""


@TRANSPORT.breaks(checks.drains)
def drains_at_once(folder: Path) -> TransportCase:
    """The last words are cut off."""
    return correct_realtime(folder, _DrainsAtOnce)


class _GivesUpTwice(KeepingSession):
    """Takes a second call for giving up."""

    async def aclose(self, error: BaseException | None = None) -> None:
        await super().aclose(error)
        if self.closes > 1:
            self.keeper.kept.pop(self.name, None)


@TRANSPORT.breaks(checks.closes_twice)
def gives_up_twice(folder: Path) -> TransportCase:
    """A complete result is removed."""
    return correct(folder, _GivesUpTwice)


class _ClosesWhatPlays(KeepingSession):
    """Waits, when it closes, for a first frame."""

    async def aclose(self, error: BaseException | None = None) -> None:
        if not self.frames:
            await anyio.sleep_forever()
        await super().aclose(error)


@TRANSPORT.breaks(checks.closes_after_a_failed_start)
def closes_what_plays(folder: Path) -> TransportCase:
    """A session that failed to start never ends; one that fails before its first frame is not looked at here."""
    return replace(correct(folder, _ClosesWhatPlays), leftovers=None)


class _LeavesAHalf(KeepingSession):
    """Keeps what it has, error or not."""

    async def aclose(self, error: BaseException | None = None) -> None:
        await super().aclose(None)
        self.error = error


@TRANSPORT.breaks(checks.leaves_nothing_half_made)
def leaves_a_half(folder: Path) -> TransportCase:
    """Half a video looks like a whole one."""
    return correct(folder, _LeavesAHalf)


class _DropsBoth(KeepingSession):
    """Drops a frame's sound with its picture."""

    async def present(self, frame: PairedFrame) -> None:
        if frame.video is not None:
            await super().present(frame)


@TRANSPORT.breaks(checks.bears_dropped_pictures)
def drops_both(folder: Path) -> TransportCase:
    """Speech has holes when the machine is busy."""
    return correct(folder, _DropsBoth)


class _FillsUp(KeepingSession):
    """Fills a short frame's sound up to its slot."""

    async def present(self, frame: PairedFrame) -> None:
        if frame.short and self.audio is not None and self.video is not None:
            slot = int(self.audio.rate / self.video.fps)
            missing = silence(slot - len(frame.audio), self.audio.channels)
            frame = replace(frame, audio=np.concatenate([frame.audio, missing]))
        await super().present(frame)


@TRANSPORT.breaks(checks.bears_short_frames)
def fills_up(folder: Path) -> TransportCase:
    """The video is longer than its recording."""
    return correct(folder, _FillsUp)


class _Sleeps(KeepingSession):
    """Takes a moment for each frame."""

    async def present(self, frame: PairedFrame) -> None:
        await anyio.sleep(0.005)
        await super().present(frame)


@TRANSPORT.breaks(checks.keeps_its_pacing)
def sleeps(folder: Path) -> TransportCase:
    """A file takes longer than it must."""
    return correct(folder, _Sleeps)


class _TakesAll(KeepingSession):
    """Has a buffer without a bound."""

    def __init__(self, keeper: Keeper, name: str, pacing: Pacing) -> None:
        super().__init__(keeper, name, pacing)
        self._buffer = 3600.0


@TRANSPORT.breaks(checks.keeps_its_pacing)
def takes_all(folder: Path) -> TransportCase:
    """Whatever is given is heard much later."""
    return correct_realtime(folder, _TakesAll)


@TRANSPORT.breaks(checks.shares_nothing_with_another)
def shares_its_frames(folder: Path) -> TransportCase:
    """The frames are kept on the class, from the latest publish on."""

    class Shares(KeepingSession):
        both: list[PairedFrame] = []  # noqa: RUF012 - the defect

        async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
            await super().publish(video, audio)
            Shares.both.clear()
            self.frames = Shares.both

    return correct(folder, Shares)


class _Clings(KeepingSession):
    """Takes its time when it is cancelled while it waits."""

    async def present(self, frame: PairedFrame) -> None:
        try:
            await super().present(frame)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2 * checks.PROMPT)
            raise


@TRANSPORT.breaks(checks.stops_when_it_is_cancelled)
def clings(folder: Path) -> TransportCase:
    """A session that ends has to wait for it."""
    return correct_realtime(folder, _Clings)


class _Lenient(Keeper):
    """Takes a session without a name, and keeps it nowhere."""

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        assert isinstance(options, KeeperOptions)
        return self.made(self, options.name, self.pacing)


@TRANSPORT.breaks(checks.refuses_with_a_sentence)
def lenient(folder: Path) -> TransportCase:
    """Nobody learns why there is no result."""
    made: Callable[[], Transport] = lambda: _Lenient({}, KeepingSession, Pacing.ASAP)  # noqa: E731 - as a case has it
    return replace(correct(folder), make=made, readback=None, leftovers=None)
