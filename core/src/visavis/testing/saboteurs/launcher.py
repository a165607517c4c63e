"""A correct launcher, and launchers that break one promise each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import anyio

from visavis.component import ComponentConfig, NoOptions
from visavis.config import Deployment, Limits, Part
from visavis.errors import AtCapacity, AvatarNotFound, TransportError
from visavis.interfaces.avatar import AvatarEntry, AvatarStore
from visavis.interfaces.launcher import Capacity
from visavis.interfaces.session import SessionContext, SessionHandle, SessionLimits, SessionRequest, SessionStats
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat
from visavis.plugins import AudioSourcePlugin, AvatarStorePlugin, Kind, RendererPlugin, TransportPlugin
from visavis.registry import Origin
from visavis.session import Session
from visavis.supervisor import LocalLauncher
from visavis.testing import launcher as checks
from visavis.testing.fakes import FakeRenderer, Recorder, RecorderTransport
from visavis.testing.launcher import LAUNCHER, LauncherCase

MOST = 3
PEOPLE = ("ada", "bob")


class RoomOptions(ComponentConfig):
    """Which room: ``closed`` cannot be joined, ``slow`` takes its time."""

    room: str = "open"
    """Its name."""


class Rooms(RecorderTransport):
    """Real-time rooms that keep nothing."""

    def __init__(self) -> None:
        super().__init__(Pacing.REALTIME, AudioFormat(checks.RATE))

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> Recorder:
        """A room, joined. Raises TransportError for a closed one."""
        assert isinstance(options, RoomOptions)
        if options.room == "closed":
            raise TransportError("the room is closed", hint="ask for another one")
        if options.room == "slow":
            await anyio.sleep(3.0)
        return await super().prepare(context, options)


class Silent(AudioSource):
    """Says nothing and stays."""

    async def run(self, speech: SpeechWriter) -> None:
        """Wait."""
        await anyio.sleep_forever()


class People(AvatarStore):
    """Two avatars without files."""

    async def list(self) -> list[AvatarEntry]:
        """Both."""
        return [AvatarEntry(name, name.title(), 1, name) for name in PEOPLE]

    async def open(self, avatar_id: str) -> Any:
        """One of them. Raises AvatarNotFound."""
        if avatar_id not in PEOPLE:
            raise AvatarNotFound(f"there is no avatar {avatar_id[:40]!a}; there are: {', '.join(PEOPLE)}")

        @contextmanager
        def opened() -> Any:
            yield SimpleNamespace(manifest=SimpleNamespace(engine="graphs/1"), digest=avatar_id)

        return opened()


def deployment(rooms: Rooms) -> Deployment:
    """A deployment of fakes."""
    records: dict[Kind, Any] = {
        Kind.STORE: AvatarStorePlugin(name="people", summary="Two.", factory=lambda config: People()),
        Kind.SOURCE: AudioSourcePlugin(name="silent", summary="None.", factory=lambda config, session: Silent()),
        Kind.RENDERER: RendererPlugin(name="grey", summary="Grey.", factory=lambda config: FakeRenderer(fps=25)),
        Kind.TRANSPORT: TransportPlugin(
            name="rooms", summary="Rooms.", session=RoomOptions, factory=lambda config: rooms
        ),
    }
    origin = Origin("visavis-testing", "0", "fakes")
    parts = {kind: Part(kind, each.name, each, NoOptions(), origin) for kind, each in records.items()}
    return Deployment(
        store=parts[Kind.STORE],
        source=parts[Kind.SOURCE],
        renderer=parts[Kind.RENDERER],
        transport=parts[Kind.TRANSPORT],
        limits=Limits(max_sessions=MOST, idle_timeout_s=None),
    )


def correct(folder: Path, made: Callable[[Deployment], LocalLauncher] = LocalLauncher) -> LauncherCase:
    """A launcher that keeps every promise; or one that does not."""
    rooms = Rooms()

    def asks(**room: str) -> SessionRequest:
        return SessionRequest(avatar=PEOPLE[0], transport=room)

    return LauncherCase(
        make=lambda: made(deployment(rooms)),
        most=MOST,
        request=asks,
        wrong=lambda: asks(room="closed"),
        slow=lambda: asks(room="slow"),
        joined=lambda: len(rooms.made),
        other=PEOPLE[1],
        patience=2.0,
    )


class _Counts(LocalLauncher):
    """Numbers its sessions."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        session = await super().start(request)
        assert isinstance(session, Session)
        del self._sessions[session.id]
        session.context.session_id = str(len(self._sessions) + 1)
        self._sessions[session.id] = session
        return session


@LAUNCHER.breaks(checks.starts_what_runs)
def counts_its_sessions(folder: Path) -> LauncherCase:
    """Whoever has one id knows the others."""
    return correct(folder, _Counts)


class _Remembers(LocalLauncher):
    """Lists what has ended, too."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self.all: list[SessionHandle] = []

    async def start(self, request: SessionRequest) -> SessionHandle:
        session = await super().start(request)
        self.all.append(session)
        return session

    async def sessions(self) -> list[SessionHandle]:
        return self.all


@LAUNCHER.breaks(checks.forgets_what_has_ended)
def remembers_everybody(folder: Path) -> LauncherCase:
    """Its memory grows with every session."""
    return correct(folder, _Remembers)


class _Optimist(LocalLauncher):
    """Has never a problem, as it says."""

    async def capacity(self) -> Capacity:
        full = await super().capacity()
        return Capacity(full.running, full.starting, full.most)

    async def start(self, request: SessionRequest) -> SessionHandle:
        full = await super().capacity()
        if full.problem is not None:
            raise AtCapacity(full.problem, retry_after=full.retry_after)
        return await super().start(request)


@LAUNCHER.breaks(checks.says_how_full_it_is)
def sees_no_problem(folder: Path) -> LauncherCase:
    """A load balancer sends everybody here."""
    return correct(folder, _Optimist)


class _ComeBackAtOnce(LocalLauncher):
    """Refuses without a time to wait."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        try:
            return await super().start(request)
        except AtCapacity as error:
            raise AtCapacity(error.message, retry_after=0.0) from None


class _JoinsFirst(LocalLauncher):
    """Joins, and then sees that it is full."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        full = await self.capacity()
        if full.problem is not None:
            await self.supervisor.transport.prepare(SessionContext("", request), RoomOptions())
        return await super().start(request)


@LAUNCHER.breaks(checks.refuses_when_it_is_full)
def is_asked_again_at_once(folder: Path) -> LauncherCase:
    """Clients hammer it."""
    return correct(folder, _ComeBackAtOnce)


@LAUNCHER.breaks(checks.refuses_when_it_is_full)
def joins_first(folder: Path) -> LauncherCase:
    """An avatar comes into the room and leaves."""
    return correct(folder, _JoinsFirst)


class _LeaksPlaces(LocalLauncher):
    """A failed start keeps its place."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        try:
            return await super().start(request)
        except TransportError:
            self._starts.add(anyio.CancelScope())
            raise


@LAUNCHER.breaks(checks.loses_no_place_to_a_failed_start)
def leaks_places(folder: Path) -> LauncherCase:
    """After a few failures it is full of nobody."""
    return correct(folder, _LeaksPlaces)


class _WaitsForNobody(LocalLauncher):
    """Goes on starting for a caller who has left."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        made: list[SessionHandle] = []
        failed: list[Exception] = []
        done = anyio.Event()

        async def start() -> None:
            try:
                made.append(await LocalLauncher.start(self, request))
            except Exception as error:  # noqa: BLE001 - it is raised to the caller
                failed.append(error)
            done.set()

        self._tasks.start_soon(start)
        await done.wait()
        if failed:
            raise failed[0]
        return made[0]


@LAUNCHER.breaks(checks.loses_no_place_to_one_who_leaves)
def waits_for_nobody(folder: Path) -> LauncherCase:
    """Sessions run that nobody has asked for any more."""
    return correct(folder, _WaitsForNobody)


class _With(LocalLauncher):
    """Changes one thing about every session that it starts."""

    change: Callable[[Session], None]

    async def start(self, request: SessionRequest) -> SessionHandle:
        session = await super().start(request)
        assert isinstance(session, Session)
        type(self).change(session)
        return session


def _deaf(session: Session) -> None:
    async def interrupt() -> None:
        """Do nothing."""

    session.interrupt = interrupt  # type: ignore[method-assign]


class _Deaf(_With):
    change = staticmethod(_deaf)


@LAUNCHER.breaks(checks.speaks_and_is_interrupted)
def cannot_be_interrupted(folder: Path) -> LauncherCase:
    """It talks on."""
    return correct(folder, _Deaf)


def _rude(session: Session) -> None:
    close = session.close

    async def at_once(reason: str = "closed", *, finish: bool = False) -> None:
        if finish and session._pipeline is not None:
            session._pipeline.floor.refuse(reason)
            await session.interrupt()
        await close(reason, finish=finish)

    session.close = at_once  # type: ignore[method-assign]


class _Rude(_With):
    change = staticmethod(_rude)


@LAUNCHER.breaks(checks.lets_speech_finish)
def hangs_up(folder: Path) -> LauncherCase:
    """It ends in mid-sentence."""
    return correct(folder, _Rude)


def _silent(session: Session) -> None:
    stats = session.stats

    async def without() -> SessionStats:
        found = await stats()
        found.reason = "closed" if found.reason else ""
        return found

    session.stats = without  # type: ignore[method-assign]


class _SilentEnd(_With):
    change = staticmethod(_silent)


@LAUNCHER.breaks(checks.keeps_the_reason)
def gives_no_reason(folder: Path) -> LauncherCase:
    """Nobody knows why the avatar went."""
    return correct(folder, _SilentEnd)


class _Generous(LocalLauncher):
    """Doubles what was asked for."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        limits = {name: 2 * each for name, each in request.limits.model_dump().items() if each is not None}
        return await super().start(request.model_copy(update={"limits": SessionLimits(**limits)}))


@LAUNCHER.breaks(checks.keeps_to_limits)
def is_generous(folder: Path) -> LauncherCase:
    """Who asked for a limit pays for more."""
    return correct(folder, _Generous)


def _abrupt(session: Session) -> None:
    swap = session.swap

    async def starts_anew(avatar: str) -> None:
        await swap(avatar)
        await session.interrupt()

    session.swap = starts_anew  # type: ignore[method-assign]


class _Abrupt(_With):
    change = staticmethod(_abrupt)


@LAUNCHER.breaks(checks.changes_the_avatar)
def is_cut_off_by_a_swap(folder: Path) -> LauncherCase:
    """The new face begins in the middle of nothing."""
    return correct(folder, _Abrupt)


class _SlowToLeave(LocalLauncher):
    """Waits for its sessions to end by themselves."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)


@LAUNCHER.breaks(checks.ends_all_when_it_is_left)
def is_slow_to_leave(folder: Path) -> LauncherCase:
    """A server that is told to stop stays for as long as anybody talks."""
    return correct(folder, _SlowToLeave)
