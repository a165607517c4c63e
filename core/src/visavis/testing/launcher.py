"""What every launcher must do, as checks. ``visavis.testing.LauncherKit`` runs them under pytest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import numpy as np

from visavis.errors import AtCapacity, AvatarError, FloorRefused, VisavisError
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.session import SessionHandle, SessionLimits, SessionRequest, SpeechStream
from visavis.testing.checks import ConformanceFailure, Suite, expect, expect_sentence

LAUNCHER: Final[Suite[LauncherCase]] = Suite("launcher")

RATE: Final = 16_000
WHY: Final = "the check is over"


@dataclass
class LauncherCase:
    """A launcher to be checked, in real time: its sessions go on until they are closed.

    ``make`` makes one that takes on ``most`` sessions (two at least). Give what applies:
    """

    make: Callable[[], Launcher]
    most: int
    request: Callable[[], SessionRequest] = SessionRequest
    """A session that can be started."""
    wrong: Callable[[], SessionRequest] | None = None
    """A session that cannot be started."""
    slow: Callable[[], SessionRequest] | None = None
    """A session that takes ``patience`` seconds or more to start."""
    joined: Callable[[], int] | None = None
    """How many sessions have reached the far end so far, by any launcher of this case."""
    other: str | None = None
    """The id of an avatar that may take the place of the first one."""
    patience: float = 5.0
    """Seconds in which its calls return, and in which an ended session is forgotten."""


async def _settles(case: LauncherCase, launcher: Launcher, running: int) -> None:
    """Wait until it counts so many sessions and none that starts."""
    __tracebackhide__ = True
    full = await launcher.capacity()
    with anyio.move_on_after(case.patience):
        while (full.running, full.starting) != (running, 0):
            await anyio.sleep(0.01)
            full = await launcher.capacity()
    said = f"it counts {full.running} running and {full.starting} starting sessions"
    expect((full.running, full.starting) == (running, 0), f"{said}, not {running} and 0")


async def _ended(case: LauncherCase, handle: SessionHandle) -> None:
    """Wait for a session's end."""
    __tracebackhide__ = True
    with anyio.move_on_after(case.patience) as waiting:
        await handle.wait()
    expect(not waiting.cancelled_caught, f"a session had not ended {case.patience:g} s after it was closed")


@asynccontextmanager
async def _one(case: LauncherCase) -> AsyncIterator[tuple[Launcher, SessionHandle]]:
    """A launcher with one session, which is closed afterwards."""
    async with case.make() as launcher:
        handle = await launcher.start(case.request())
        yield launcher, handle
        await handle.close(WHY)
        await _ended(case, handle)


async def _say(handle: SessionHandle, seconds: float) -> SpeechStream:
    """Write so much sound, not ended yet."""
    stream = await handle.speak(RATE)
    await stream.write(np.full(int(seconds * RATE), 0.1, np.float32))
    return stream


@LAUNCHER.check()
async def starts_what_runs(case: LauncherCase) -> None:
    """``start`` returns a session that runs, of an id of its own that cannot be guessed, and lists it."""
    async with case.make() as launcher:
        handles = [await launcher.start(case.request()) for _ in range(2)]
        states = [(await handle.stats()).state for handle in handles]
        listed = {handle.id for handle in await launcher.sessions()}
        for handle in handles:
            await handle.close(WHY)
            await _ended(case, handle)
    ids = {handle.id for handle in handles}
    expect(states == ["running", "running"], f"after start its sessions are {states}")
    expect(len(ids) == 2, "two sessions have one id")
    expect(listed == ids, f"it lists {sorted(listed)}; {sorted(ids)} run")
    expect(all(len(one) >= 12 for one in ids), f"ids as short as {min(ids, key=len)!r} can be guessed")


@LAUNCHER.check()
async def forgets_what_has_ended(case: LauncherCase) -> None:
    """A session that has ended is listed and counted no more, and its place is free."""
    async with case.make() as launcher:
        for _ in range(3 * case.most):
            handle = await launcher.start(case.request())
            await handle.close(WHY)
            await _ended(case, handle)
            await _settles(case, launcher, 0)
        expect(not await launcher.sessions(), "a session that has ended is still listed")


@LAUNCHER.check()
async def says_how_full_it_is(case: LauncherCase) -> None:
    """``capacity`` counts what runs, and has a problem when there is no room, and only then."""
    async with case.make() as launcher:
        handles = []
        for number in range(case.most):
            full = await launcher.capacity()
            expect(full.running == number, f"it counts {full.running} sessions; {number} run")
            expect(full.problem is None, f"with {number} of {case.most} sessions it has the problem {full.problem!r}")
            handles.append(await launcher.start(case.request()))
        full = await launcher.capacity()
        for handle in handles:
            await handle.close(WHY)
            await _ended(case, handle)
    expect(full.running == case.most, f"it counts {full.running} sessions; {case.most} run")
    expect(full.problem, f"with {case.most} sessions, which is all that it takes on, it has no problem")


@LAUNCHER.check()
async def refuses_when_it_is_full(case: LauncherCase) -> None:
    """One session more than it takes on is refused with AtCapacity and a time to wait, before anything is joined."""
    async with case.make() as launcher:
        handles = [await launcher.start(case.request()) for _ in range(case.most)]
        joined = case.joined() if case.joined is not None else 0
        try:
            await launcher.start(case.request())
        except Exception as error:  # noqa: BLE001 - whatever it raised is what is judged
            expect(isinstance(error, AtCapacity), f"when full it raised {type(error).__name__}, not AtCapacity")
            expect_sentence(error, "when full,")
            wait = error.retry_after if isinstance(error, AtCapacity) else 0
            expect(wait > 0, f"when full it asked to come back after {wait} s")
        else:
            raise ConformanceFailure(f"it started more than the {case.most} sessions that it takes on")
        finally:
            for handle in handles:
                await handle.close(WHY)
                await _ended(case, handle)
        if case.joined is not None:
            expect(case.joined() == joined, "a session that was refused had joined already")


@LAUNCHER.check("wrong")
async def loses_no_place_to_a_failed_start(case: LauncherCase) -> None:
    """A start that fails raises a VisavisError in one sentence, and its place is free afterwards."""
    assert case.wrong is not None
    async with case.make() as launcher:
        for _ in range(case.most + 1):
            try:
                await launcher.start(case.wrong())
            except Exception as error:  # noqa: BLE001 - whatever it raised is what is judged
                expect_sentence(error, "asked for what cannot start,")
            else:
                raise ConformanceFailure("asked for what cannot start, it raised nothing")
        await _settles(case, launcher, 0)
        full = await launcher.capacity()
    expect(full.problem is None, f"after failed starts it has the problem {full.problem!r}")


@LAUNCHER.check("slow")
async def loses_no_place_to_one_who_leaves(case: LauncherCase) -> None:
    """A start whose caller is cancelled goes no further, and its place is free afterwards."""
    assert case.slow is not None
    async with case.make() as launcher:
        for _ in range(case.most + 1):
            with anyio.move_on_after(0.05):
                try:
                    await launcher.start(case.slow())
                except AtCapacity:
                    raise ConformanceFailure("the places of those who have left are still taken") from None
        await _settles(case, launcher, 0)


@LAUNCHER.check()
async def speaks_and_is_interrupted(case: LauncherCase) -> None:
    """What is said through a handle is played to its end, or until an interrupt, and finished once."""
    async with _one(case) as (_, handle):
        stream = await _say(handle, 0.3)
        await stream.end()
        whole = await stream.wait_finished()
        expect(not whole.interrupted and whole.samples == int(0.3 * RATE), f"0.3 s came to the end {whole}")
        stream = await _say(handle, 0.3)
        await stream.wait_started()
        await handle.interrupt()
        cut = await stream.wait_finished()
        expect(cut.interrupted, f"after an interrupt a segment finished as {cut}")
        segments = (await handle.stats()).segments
    expect(segments == 2, f"two segments were said and {segments} counted")


@LAUNCHER.check()
async def lets_speech_finish(case: LauncherCase) -> None:
    """``close`` with ``finish`` returns at once, lets what was begun be said, and refuses new speech."""
    async with _one(case) as (_, handle):
        stream = await _say(handle, 0.4)
        await stream.wait_started()
        await handle.close(WHY, finish=True)
        try:
            await handle.speak(RATE)
        except FloorRefused:
            pass
        else:
            raise ConformanceFailure("a session that finishes took new speech")
        await stream.end()
        said = await stream.wait_finished()
        expect(not said.interrupted, f"what was being said when the session was to finish ended as {said}")


@LAUNCHER.check()
async def keeps_the_reason(case: LauncherCase) -> None:
    """The reason of an end is in the figures, and the first one stands."""
    async with _one(case) as (_, handle):
        expect(not (await handle.stats()).reason, "a session that runs has a reason to have ended")
        await handle.close("the first reason")
        await handle.close("the second reason")
        await _ended(case, handle)
        stats = await handle.stats()
    expect(stats.reason == "the first reason", f"closed with 'the first reason' it says {stats.reason!r}")
    expect(stats.state == "closed", f"after its end a session is {stats.state}")


@LAUNCHER.check()
async def keeps_to_limits(case: LauncherCase) -> None:
    """The limits that apply are no wider than what was asked for, and a session keeps to them."""
    asked = SessionLimits(idle_timeout_s=300.0, max_duration_s=0.5)
    async with case.make() as launcher:
        handle = await launcher.start(case.request().model_copy(update={"limits": asked}))
        limits = handle.limits
        await _ended(case, handle)
    for name in ("idle_timeout_s", "max_duration_s"):
        have, want = getattr(limits, name), getattr(asked, name)
        expect(have is not None and have <= want, f"asked for {name} {want} it applies {have}")


@LAUNCHER.check("other")
async def changes_the_avatar(case: LauncherCase) -> None:
    """``swap`` shows another avatar while speech goes on; one that is not there is refused and changes nothing."""
    assert case.other is not None
    async with _one(case) as (_, handle):
        before = (await handle.stats()).avatar
        try:
            await handle.swap("nobody-of-that-name")
        except VisavisError as error:
            expect(isinstance(error, AvatarError), f"an avatar that is not there raised {type(error).__name__}")
        else:
            raise ConformanceFailure("an avatar that is not there was taken")
        expect((await handle.stats()).avatar == before, "a swap that was refused changed the avatar")
        stream = await _say(handle, 0.4)
        await stream.wait_started()
        await handle.swap(case.other)
        shown = (await handle.stats()).avatar
        await stream.end()
        said = await stream.wait_finished()
    expect(shown == case.other, f"after a swap to {case.other} it shows {shown}")
    expect(not said.interrupted, "a swap cut off what was being said")


@LAUNCHER.check()
async def ends_all_when_it_is_left(case: LauncherCase) -> None:
    """Leaving its context ends every session, each with a reason."""
    with anyio.move_on_after(case.patience) as waiting:
        async with case.make() as launcher:
            handle = await launcher.start(case.request())
            stream = await _say(handle, 0.2)
    expect(not waiting.cancelled_caught, f"it was not left {case.patience:g} s after its end")
    await _ended(case, handle)
    expect((await handle.stats()).reason, "a session that the launcher ended has no reason")
    expect((await stream.wait_finished()).segment == stream.id, "a segment did not finish")
