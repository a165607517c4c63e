"""What every transport must do, as checks. ``visavis.testing.TransportKit`` runs them under pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import anyio
import numpy as np

from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat, silence
from visavis.testing.checks import ConformanceFailure, Suite, expect, expect_sentence, on_virtual_clock
from visavis.testing.signals import LUMA_TOLERANCE, luma_of, paired, sound_of
from visavis.testing.way_out import FRAMES, TransportCase, live

TRANSPORT: Final[Suite[TransportCase]] = Suite("transport")

PROMPT: Final = 1.0
"""Seconds in which a cancelled call must be gone."""


@TRANSPORT.check()
async def declares_its_pacing(case: TransportCase) -> None:
    """Its pacing and its sound format are known before it is published, and never change."""
    transport, context = case.make(), case.context()
    session = await transport.prepare(context, case.options())
    pacing, audio = session.pacing, session.audio_format
    await session.open(context)
    await session.publish(case.video, audio or case.audio)
    for frame in paired(case.video, audio or case.audio, 3):
        await session.present(frame)
    later, later_audio = session.pacing, session.audio_format
    await session.aclose()
    await transport.aclose()
    expect(isinstance(pacing, Pacing), f"its pacing is {pacing!r}, not a Pacing")
    expect(audio is None or isinstance(audio, AudioFormat), f"its audio_format is {audio!r}")
    expect(later is pacing, f"its pacing was {pacing} and is now {later}")
    expect(later_audio == audio, f"its sound was {audio} and is now {later_audio}")


@TRANSPORT.check()
async def publishes_without_a_frame(case: TransportCase) -> None:
    """``publish`` returns before there is a frame: clients hold their sound until they see the track."""
    transport, context = case.make(), case.context()
    session = await transport.prepare(context, case.options())
    await session.open(context)
    audio = session.audio_format or case.audio
    with anyio.move_on_after(case.patience) as waiting:
        await session.publish(case.video, audio)
    late = waiting.cancelled_caught
    if not late:
        await session.present(next(paired(case.video, audio, 1)))
    await session.aclose()
    await transport.aclose()
    expect(not late, f"publish had not returned after {case.patience:g} s without a frame")


@TRANSPORT.check("readback")
async def every_sample_arrives(case: TransportCase) -> None:
    """All the sound that was presented comes out, once and in order: pictures may be dropped, sound never."""
    async with live(case) as life:
        frames = life.frames(2 * FRAMES)
        await life.give(frames)
        await life.end()
        await life.expect_arrived(sound_of(frames))


@TRANSPORT.check("readback")
async def every_picture_arrives(case: TransportCase) -> None:
    """Under ``asap`` each picture comes out, once and in order. In real time late ones may be missing."""
    async with live(case) as life:
        if life.session.pacing is not Pacing.ASAP:
            return
        frames = life.frames()
        await life.give(frames)
        await life.end()
        lumas = (await life.arrived()).lumas
    expect(len(lumas) == len(frames), f"{len(lumas)} pictures arrived of {len(frames)} that were sent")
    for index, luma in enumerate(lumas):
        off = abs(luma - luma_of(index))
        expect(off <= LUMA_TOLERANCE, f"picture {index} is not the one that was sent: its luma differs by {off:.0f}")


@TRANSPORT.check("readback")
async def keeps_the_sound_format(case: TransportCase) -> None:
    """One that takes any format (its ``audio_format`` is None) lets rate and channels come out as they went in."""
    for audio in (AudioFormat(44_100, 2), AudioFormat(24_000, 1)):
        async with live(replace(case, audio=audio)) as life:
            if life.session.audio_format is not None:
                return
            await life.give(life.frames())
            await life.end()
            out = await life.arrived()
        have = AudioFormat(out.rate, out.sound.shape[1])
        expect(have == audio, f"{audio} went in and {have} came out")


@TRANSPORT.check()
async def holds_no_less_than_nothing(case: TransportCase) -> None:
    """``held`` is a count of samples: 0 or more, and no more than were presented. Positions are made of it."""
    async with live(case) as life:
        given = 0
        _expect_count(life.session.held(), given)
        for frame in life.frames(8):
            await life.session.present(frame)
            given += len(frame.audio)
            _expect_count(life.session.held(), given)
        for _ in range(4):
            await anyio.sleep(0.15)
            _expect_count(life.session.held(), given)


def _expect_count(held: object, given: int) -> None:
    __tracebackhide__ = True
    expect(isinstance(held, int), f"held() is {held!r}, not a count of samples")
    expect(isinstance(held, int) and 0 <= held <= given, f"held() is {held} after {given} samples were presented")


@TRANSPORT.check()
async def flush_empties_it(case: TransportCase) -> None:
    """After an interrupt's ``flush`` nothing is held any more."""
    async with live(case) as life:
        await life.give(life.frames(6), paced=False)
        await life.session.flush()
        held = life.session.held()
    expect(held == 0, f"held() is {held} after a flush")


@TRANSPORT.check()
async def flushes_what_is_empty(case: TransportCase) -> None:
    """``flush`` may come before the first frame, and twice: users cut in when they like."""
    async with live(case) as life:
        with anyio.move_on_after(case.patience) as waiting:
            await life.session.flush()
            await life.session.flush()
            await life.give(life.frames(4), paced=False)
            await life.session.flush()
            await life.session.flush()
    expect(not waiting.cancelled_caught, f"a flush of nothing had not returned after {case.patience:g} s")


@TRANSPORT.check()
async def tells_and_plays_on(case: TransportCase) -> None:
    """``announce`` takes any facts, before it is published, in between and again, and what is held is played on."""
    transport, context = case.make(), case.context()
    session = await transport.prepare(context, case.options())
    audio = session.audio_format or case.audio

    async def tell(**facts: str) -> None:
        __tracebackhide__ = True
        with anyio.move_on_after(case.patience) as waiting:
            await session.announce(**facts)
        expect(not waiting.cancelled_caught, f"announce had not returned after {case.patience:g} s")

    try:
        await session.open(context)
        await tell(state="starting", reason="")
        await session.publish(case.video, audio)
        for frame in paired(case.video, audio, 4):
            await session.present(frame)
            await tell(state="ending", ends_in_s=str(frame.index), reason="it is late: 9 o'clock")
        await tell(state="closing", fact_of_tomorrow="x" * 200)
    finally:
        await session.aclose()
        await transport.aclose()


@TRANSPORT.check()
async def plays_on_after_a_flush(case: TransportCase) -> None:
    """What is presented after a ``flush`` is taken like what came before."""
    async with live(case) as life:
        before, after = life.frames(12), life.frames(24, first=12)
        await life.give(before, paced=False)
        holds = life.session.held() > 0
        await life.session.flush()
        await life.give(after[:3], paced=False)
        expect(life.session.held() > 0 or not holds, "nothing was held of what was presented after a flush")
        await life.give(after[3:])
        await life.end()
        if case.readback is not None and life.session.pacing is Pacing.ASAP:
            await life.expect_arrived(sound_of(before + after))


@TRANSPORT.check()
async def drains(case: TransportCase) -> None:
    """``drain`` returns when all has been played, and not before."""
    async with live(case) as life:
        await life.give(life.frames(10), paced=False)
        patience = case.patience + life.session.held() / life.audio.rate
        with anyio.move_on_after(patience) as waiting:
            await life.session.drain()
        held = life.session.held()
    expect(not waiting.cancelled_caught, f"drain had not returned after {patience:g} s")
    expect(held <= 0, f"held() is {held} after a drain")


@TRANSPORT.check()
async def closes_twice(case: TransportCase) -> None:
    """``aclose`` may be called again and then does nothing; also the transport's own."""
    transport = case.make()
    async with live(case, transport=transport) as life:
        frames = life.frames()
        await life.give(frames)
        await life.end()
        with anyio.move_on_after(case.patience) as waiting:
            await life.session.aclose()
            await life.session.aclose(RuntimeError("the session failed after it had closed"))
            await transport.aclose()
            await transport.aclose()
        expect(not waiting.cancelled_caught, f"a second aclose had not returned after {case.patience:g} s")
        if case.readback is not None:
            expect(len((await life.arrived()).sound), "what was complete was gone after a second aclose")


@TRANSPORT.check()
async def closes_after_a_failed_start(case: TransportCase) -> None:
    """``aclose`` lets go whatever came before it: ``prepare`` alone, ``open``, or ``publish`` without a frame."""
    for steps in range(3):
        transport, options, context = case.make(), case.options(), case.context()
        session = await transport.prepare(context, options)
        if steps > 0:
            await session.open(context)
        if steps > 1:
            await session.publish(case.video, session.audio_format or case.audio)
        with anyio.move_on_after(case.patience) as waiting:
            await session.aclose(RuntimeError("another part failed to start"))
            await transport.aclose()
        came = ("prepare", "open", "publish")[steps]
        expect(not waiting.cancelled_caught, f"aclose after {came} had not returned after {case.patience:g} s")


@TRANSPORT.check("leftovers")
async def leaves_nothing_half_made(case: TransportCase) -> None:
    """Closed with an error, also before the first frame, it leaves nothing behind that looks like a result."""
    assert case.leftovers is not None
    for count in (FRAMES, 0):
        async with live(case) as life:
            await life.give(life.frames(count))
            await life.session.aclose(RuntimeError("the session failed"))
            left = list(case.leftovers(life.options))
        expect(not left, f"after an error this was left: {left}")


@TRANSPORT.check()
async def bears_dropped_pictures(case: TransportCase) -> None:
    """Frames without a picture (it was late) bring their sound as all do: at the start, in between, at the end."""
    async with live(case) as life:
        frames = life.frames()
        for index in (0, 1, 9, 20, 21, FRAMES - 1):
            frames[index] = replace(frames[index], video=None)
        await life.give(frames)
        await life.end()
        if case.readback is not None:
            await life.expect_arrived(sound_of(frames))


@TRANSPORT.check()
async def bears_short_frames(case: TransportCase) -> None:
    """A recording's last sound is shorter than its slot. If a frame follows, the silence that is owed comes with it."""
    async with live(case) as life:
        frames = life.frames()
        frames[-1] = replace(frames[-1], audio=frames[-1].audio[: len(frames[-1].audio) // 9], short=True)
        if life.session.pacing is Pacing.ASAP:
            middle, follows = frames[10].audio, frames[11].audio
            owed = len(middle) - 7
            frames[10] = replace(frames[10], audio=middle[:7], short=True)
            frames[11] = replace(frames[11], audio=np.concatenate([silence(owed, middle.shape[1]), follows]))
        await life.give(frames)
        await life.end()
        if case.readback is not None:
            have, want = len((await life.arrived()).sound), len(sound_of(frames))
            slack = 0 if case.exact else life.audio.rate // 50
            expect(abs(have - want) <= slack, f"{have} samples arrived of {want} that were sent")


@TRANSPORT.check()
async def keeps_its_pacing(case: TransportCase) -> None:
    """``asap`` never sleeps; in real time no more is held than the transport's buffer, so ``present`` waits."""
    async with live(case) as life:
        began, most = anyio.current_time(), 0
        for frame in life.frames(2 * FRAMES if life.session.pacing is Pacing.ASAP else FRAMES):
            await life.session.present(frame)
            most = max(most, life.session.held())
        took = anyio.current_time() - began
        if life.session.pacing is Pacing.REALTIME:
            limit = case.buffer + float(1 / case.video.fps)
            held = most / life.audio.rate
            expect(held <= limit, f"{held:.2f} s were held; {limit:.2f} s are allowed")
        elif on_virtual_clock():  # there time passes by sleeping alone
            expect(took < 0.1, f"an asap transport slept {took:.2f} s")


@TRANSPORT.check("readback")
async def shares_nothing_with_another(case: TransportCase) -> None:
    """Two sessions of one transport at the same time each bring out what they were given."""
    transport = case.make()
    async with live(case, transport=transport) as one, live(case, transport=transport) as other:
        given = (one.frames(), other.frames(low=700.0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.give, given[0])
            tasks.start_soon(other.give, given[1])
        for life, frames in zip((one, other), given, strict=True):
            await life.end()
            await life.expect_arrived(sound_of(frames))
    await transport.aclose()


@TRANSPORT.check()
async def stops_when_it_is_cancelled(case: TransportCase) -> None:
    """A cancelled ``present`` is gone at once, and the session can be closed."""
    async with live(case) as life:
        some = anyio.Event()

        async def give() -> None:
            for frame in life.frames(250):
                await life.session.present(frame)
                if frame.index == 4:
                    some.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give)
            await some.wait()
            if life.session.pacing is Pacing.REALTIME:
                await anyio.sleep(case.buffer)  # by then it is full and present waits
            asked = anyio.current_time()
            tasks.cancel_scope.cancel()
        took = anyio.current_time() - asked
        expect(took <= PROMPT, f"present took {took:.2f} s to go after it was cancelled")


@TRANSPORT.check("wrong")
async def refuses_with_a_sentence(case: TransportCase) -> None:
    """A session that cannot work is refused with a VisavisError that says why, in one sentence."""
    assert case.wrong is not None
    transport, session = case.make(), None
    try:
        context = case.context()
        session = await transport.prepare(context, case.wrong())
        await session.open(context)
        audio = session.audio_format or case.audio
        await session.publish(case.video, audio)
        for frame in paired(case.video, audio, FRAMES):
            await session.present(frame)
        await session.aclose()
    except Exception as error:  # noqa: BLE001 - whatever it raised is what is judged
        expect_sentence(error, "asked for what cannot work,")
    else:
        raise ConformanceFailure("asked for what cannot work, it raised nothing")
    finally:
        if session is not None:
            await session.aclose(RuntimeError("refused"))
        await transport.aclose()
