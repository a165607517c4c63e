"""What every renderer must do, as checks. ``visavis.testing.RendererKit`` runs them under pytest."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Final

import numpy as np

from visavis.errors import VisavisError
from visavis.interfaces.renderer import RenderInput
from visavis.media import VideoFrame
from visavis.testing.checks import ConformanceFailure, Suite, expect, expect_sentence
from visavis.testing.rig import RendererCase, Rig, loaded, unlike, worst

RENDERER: Final[Suite[RendererCase]] = Suite("renderer")

SEEN: Final = 6.0
"""Levels of a block's mean from which on two pictures are not alike."""
FULL: Final = 32
"""The largest batch that is tried."""
IDLE: Final = RenderInput(None)


@RENDERER.check()
def declares_a_sane_format(case: RendererCase) -> None:
    """A hop of sound is exactly a picture long; the look-ahead is a small count of steps; nothing of it changes."""
    with loaded(case) as rig:
        form = rig.format
        expect(form.hop * form.video.fps == form.sample_rate, f"{form.hop} samples a picture do not fit {form}")
        expect(0 <= form.look_ahead <= 2 * form.video.fps, f"a look-ahead of {form.look_ahead} pictures")
        expect(rig.avatar.format == form, "its format changed")
        expect(rig.renderer.max_batch >= 1, f"its max_batch is {rig.renderer.max_batch}")
        engines = rig.renderer.engines
        expect(engines and all(isinstance(engine, str) for engine in engines), f"its engines are {engines!r}")


@RENDERER.check()
def draws_i420(case: RendererCase) -> None:
    """A picture has the size that was declared, as contiguous 8 bit I420; its alpha, if any, as well."""
    with loaded(case) as rig, rig.session() as session:
        for given in (IDLE, *map(RenderInput, rig.voice(2))):
            (frame,) = rig.renderer.step([session], [given])
            assert frame is not None
            _expect_i420(frame, rig)


def _expect_i420(frame: VideoFrame, rig: Rig) -> None:
    __tracebackhide__ = True
    wide, high = rig.format.video.width, rig.format.video.height
    expect((frame.width, frame.height) == (wide, high), f"a picture of {frame.width}x{frame.height}, not {wide}x{high}")
    data = frame.data
    expect(data.dtype == np.uint8, f"its samples are {data.dtype}, not uint8")
    expect(data.shape == (high * 3 // 2, wide), f"its data has the shape {data.shape}, not {(high * 3 // 2, wide)}")
    expect(data.flags.c_contiguous, "its data is not contiguous")
    if frame.alpha is not None:
        fits = frame.alpha.dtype == np.uint8 and frame.alpha.shape == (high, wide)
        expect(fits, f"its alpha is {frame.alpha.dtype} {frame.alpha.shape}, not uint8 {(high, wide)}")


@RENDERER.check()
def draws_a_batch_as_each_alone(case: RendererCase) -> None:
    """``step([a, b])`` is ``step([a])`` and ``step([b])``, within one level: right rows, no rows that mix."""
    steps = 8
    with loaded(case) as rig:
        count = min(3, rig.renderer.max_batch)
        sounds = [rig.voice(steps), rig.hush(steps), [0.3 * pcm for pcm in rig.voice(steps)]][:count]
        with rig.sessions(count) as sessions:
            together = [
                rig.step(sessions, [RenderInput(sound[at], draw=at > 1) for sound in sounds]) for at in range(steps)
            ]
    for row in range(count):
        with loaded(case) as rig, rig.session(seed=row) as session:
            alone = [rig.step([session], [RenderInput(sounds[row][at], draw=at > 1)])[0] for at in range(steps)]
        for at, want in enumerate(alone):
            have = together[at][row]
            expect((have is None) == (want is None), f"row {row} of step {at} is not drawn as it is alone")
            if have is not None and want is not None:
                off = worst(have, want)
                expect(off <= case.tolerance, f"row {row} of step {at} differs by {off} levels from itself alone")


@RENDERER.check()
def repeats_itself(case: RendererCase) -> None:
    """Equal seeds and sound give equal pictures, bit for bit: in the same process and on a renderer made anew."""
    runs = []
    for _ in range(2):
        with loaded(case) as rig:
            for _ in range(2):
                with rig.session(seed=7) as session:
                    runs.append(rig.hear(session, [None, *rig.voice(5), None]))
    same = all(np.array_equal(one, other) for run in runs[1:] for one, other in zip(runs[0], run, strict=True))
    expect(same, "the same sound and seed gave other pictures")


@RENDERER.check()
def moves_with_speech(case: RendererCase) -> None:
    """A face that hears speech looks other than one that hears silence."""
    with loaded(case) as rig:
        steps = rig.format.look_ahead + math.ceil(0.6 * rig.fps)
        with rig.session() as speaking, rig.session() as silent:
            spoken, quiet = rig.hear(speaking, rig.voice(steps)), rig.hear(silent, rig.hush(steps))
        most = max(unlike(one, other) for one, other in zip(spoken, quiet, strict=True))
    expect(most >= SEEN, f"a face that hears speech differs by {most:.1f} levels from one that hears nothing")


@RENDERER.check()
def looks_ahead_as_declared(case: RendererCase) -> None:
    """The picture that step k returns belongs to the sound of step k - look_ahead: a burst is seen when it is heard."""
    with loaded(case) as rig:
        before, burst = math.ceil(0.5 * rig.fps), max(2, math.ceil(0.2 * rig.fps))
        after = rig.format.look_ahead + math.ceil(0.6 * rig.fps)
        sound = [*rig.hush(before), *rig.voice(burst), *rig.hush(after)]
        with rig.session() as hearing, rig.session() as silent:
            pairs = zip(rig.hear(hearing, sound), rig.hear(silent, rig.hush(len(sound))), strict=True)
            change = np.array([np.abs(one.astype(float) - other).mean() for one, other in pairs])
        if change.max() < 0.02:  # whether it moves at all is another check
            return
        seen = int(np.argmax(change >= change.max() / 2))
        late = seen - (before + rig.format.look_ahead)
        allowed = math.ceil(case.sync * rig.fps)
    expect(
        abs(late) <= allowed,
        f"a burst is seen {abs(late)} pictures too {'late' if late > 0 else 'early'}: "
        f"a look-ahead of {rig.format.look_ahead} was declared",
    )


@RENDERER.check()
def draws_nothing_unless_asked(case: RendererCase) -> None:
    """With ``draw=False`` the sound is heard, no picture comes, and no time passes for the body."""
    with loaded(case) as rig:
        with rig.session(seed=3) as primed, rig.session(seed=3) as plain:
            for pcm in rig.hush(9):
                (frame,) = rig.step([primed], [RenderInput(pcm, draw=False)])
                expect(frame is None, "a picture came that was not asked for")
            for one, other in zip(rig.hear(primed, [None] * 4), rig.hear(plain, [None] * 4), strict=True):
                expect(unlike(one, other) < SEEN, "time passed for the body in steps that were not drawn")


@RENDERER.check()
def rests_when_idle(case: RendererCase) -> None:
    """Idle pictures need no sound, and after speech the face comes to rest."""
    with loaded(case) as rig:
        spoken, settle, watch = math.ceil(0.6 * rig.fps), math.ceil(case.settle * rig.fps), math.ceil(rig.fps)
        with rig.session() as talker, rig.session() as idler:
            rig.hear(talker, rig.voice(spoken))
            rig.hear(idler, [None] * spoken)
            rig.hear(talker, [None] * settle)
            rig.hear(idler, [None] * settle)
            # A blink may come at another time to one who spoke: alike once is enough, a mouth that hangs open never is.
            pairs = zip(rig.hear(talker, [None] * watch), rig.hear(idler, [None] * watch), strict=True)
            least = min(unlike(one, other) for one, other in pairs)
    expect(least < SEEN, f"{case.settle:g} s after speech an idle face still differs by {least:.1f} levels from rest")


@RENDERER.check()
def keeps_the_body_over_a_reset(case: RendererCase) -> None:
    """An interrupt is no cut: after ``reset`` the body goes on from where it was."""
    with loaded(case) as rig:
        before = max(12, math.ceil(0.4 * rig.fps))
        with rig.session() as cut, rig.session() as plain:
            rig.hear(cut, [None] * before)
            rig.hear(plain, [None] * before)
            cut.reset()
            pairs = zip(rig.hear(cut, [None] * 4), rig.hear(plain, [None] * 4), strict=True)
            most = max(unlike(one, other) for one, other in pairs)
    expect(most < SEEN, f"after a reset the picture jumps by {most:.1f} levels")


@RENDERER.check()
def forgets_sound_at_a_reset(case: RendererCase) -> None:
    """What was heard and not shown when the user cut in is never shown."""
    with loaded(case) as rig:
        ahead = max(1, rig.format.look_ahead)
        with rig.session() as cut, rig.session() as silent:
            for session, sound in ((cut, rig.voice(ahead)), (silent, rig.hush(ahead))):
                rig.hear(session, rig.hush(4))
                rig.prime(session, sound)
                session.reset()
            steps = ahead + 4
            pairs = zip(rig.hear(cut, rig.hush(steps)), rig.hear(silent, rig.hush(steps)), strict=True)
            most = max(unlike(one, other) for one, other in pairs)
    expect(most < SEEN, f"after a reset the face still shows what it had heard ({most:.1f} levels)")


@RENDERER.check()
def keeps_sessions_apart(case: RendererCase) -> None:
    """A session hears its own sound only, also where the steps of two take turns."""
    steps = 8
    with loaded(case) as rig:
        with rig.session(seed=1) as loud, rig.session(seed=2) as silent:
            beside = []
            for pcm, hush in zip(rig.voice(steps), rig.hush(steps), strict=True):
                rig.one(loud, RenderInput(pcm))
                beside.append(rig.one(silent, RenderInput(hush)))
    with loaded(case) as rig, rig.session(seed=2) as session:
        alone = rig.hear(session, rig.hush(steps))
    most = max(worst(one, other) for one, other in zip(beside, alone, strict=True))
    expect(most <= case.tolerance, f"beside a session that speaks a silent one differs by {most} levels")


@RENDERER.check()
def shares_what_it_loaded(case: RendererCase) -> None:
    """Loading an avatar again gives the same batch key, and sessions of both loads go into one step."""
    with loaded(case) as one, loaded(case, one.renderer) as other:
        keys = one.avatar.batch_key, other.avatar.batch_key
        expect(keys[0] == keys[1] and hash(keys[0]) == hash(keys[1]), f"one avatar has two batch keys: {keys}")
        if one.renderer.max_batch > 1:
            with one.session() as first, other.session() as second:
                one.step([first, second], [IDLE, IDLE])


@RENDERER.check()
def closes_twice(case: RendererCase) -> None:
    """Every ``close`` may be called again, and lets go of nothing that others still use."""
    with loaded(case) as rig, rig.session() as session:
        alone = rig.hear(session, [*rig.voice(6)])
    with loaded(case) as keeper, keeper.session() as kept:
        first = [keeper.one(kept, RenderInput(pcm)) for pcm in keeper.voice(6)[:3]]
        with loaded(case, keeper.renderer) as rig:
            with rig.session() as session:
                session.close()
            rig.avatar.close()
            rig.avatar.close()
        rest = [keeper.one(kept, RenderInput(pcm)) for pcm in keeper.voice(6)[3:]]
    keeper.renderer.close()
    most = max(worst(one, other) for one, other in zip(first + rest, alone, strict=True))
    expect(most <= case.tolerance, f"after another load was closed twice a session differs by {most} levels")


@RENDERER.check()
def refuses_other_engines(case: RendererCase) -> None:
    """An avatar whose engine it does not read is refused with AvatarInvalid or RendererError, in a sentence."""
    renderer = case.make()
    try:
        with case.open(case.avatar) as file:
            file.manifest = file.manifest.model_copy(update={"engine": "nobody-reads-this/9"})
            try:
                renderer.load(file).close()
            except VisavisError as error:
                expect_sentence(error, "given an avatar of another engine,")
            else:
                raise ConformanceFailure("it loaded an avatar of an engine that it does not read")
    finally:
        renderer.close()


@RENDERER.check()
def leaves_the_file_open(case: RendererCase) -> None:
    """``load`` does not close the avatar's file, which belongs to whoever opened it."""
    renderer = case.make()
    try:
        with case.open(case.avatar) as file:
            renderer.load(file).close()
            try:
                file.read(file.members[0])
            except (ValueError, OSError) as error:
                raise ConformanceFailure(f"after load the file cannot be read any more: {error}") from error
    finally:
        renderer.close()


@RENDERER.check()
def takes_a_full_batch(case: RendererCase) -> None:
    """It draws as many sessions in one step as its ``max_batch`` says."""
    with loaded(case) as rig:
        count = min(rig.renderer.max_batch, FULL)
        with rig.sessions(count) as sessions:
            frames = rig.renderer.step(sessions, [IDLE] * count)
    drawn = sum(frame is not None for frame in frames)
    expect(drawn == count, f"{drawn} pictures came for a batch of {count}")


@RENDERER.check()
def leaves_the_sound_alone(case: RendererCase) -> None:
    """The sound that it is given is read and not written to."""
    with loaded(case) as rig, rig.session() as session:
        for pcm in rig.voice(2):
            given = pcm.copy()
            rig.renderer.step([session], [RenderInput(given)])
            expect(np.array_equal(given, pcm), "it changed the sound that it was given")


@RENDERER.check()
def leaves_its_pictures_alone(case: RendererCase) -> None:
    """A picture that was handed out does not change when the next ones are drawn: it waits to be presented."""
    with loaded(case) as rig, rig.session() as session:
        frames = [rig.renderer.step([session], [RenderInput(pcm)])[0] for pcm in rig.voice(1)]
        first = frames[0]
        assert first is not None
        before = first.data.copy()
        rig.hear(session, [*rig.voice(4), None, None])
        expect(np.array_equal(first.data, before), "a picture changed after it had been handed out")


@RENDERER.check()
def works_from_any_thread(case: RendererCase) -> None:
    """Every step may come from another thread: the core calls it from a pool of workers."""
    with loaded(case) as rig:
        sounds = rig.voice(8)
        with rig.session() as session:
            alone = rig.hear(session, sounds)
        with ThreadPoolExecutor(1) as left, ThreadPoolExecutor(1) as right, rig.session() as session:
            pools = zip(sounds, cycle((left, right)), strict=False)
            turns = [pool.submit(rig.one, session, RenderInput(pcm)).result() for pcm, pool in pools]
    most = max(worst(one, other) for one, other in zip(turns, alone, strict=True))
    expect(most <= case.tolerance, f"from two threads in turn the pictures differ by {most} levels")
