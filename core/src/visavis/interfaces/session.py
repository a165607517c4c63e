"""A session from outside: what is asked for, what it needs while it runs, and how it is reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import anyio
from pydantic import BaseModel, ConfigDict, Field

from visavis.component import discreet
from visavis.metrics import Metrics, NoMetrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class SessionLimits(BaseModel):
    """How long a session may last. None takes the deployment's figure; the smaller of two applies."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    idle_timeout_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    """Seconds without speech after which it is ended."""
    max_duration_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    """Seconds after which it is ended, once what is being said has been said."""


class SessionRequest(BaseModel):
    """What a caller asks for: an avatar, and options for each part, validated by that part's session model.

    Serialisable; holds no live objects. Its options may hold secrets (a room's token): these are in what
    ``model_dump`` gives, and in nothing that is shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    avatar: str = Field(default="mira", min_length=1, max_length=200)
    """The id of the avatar: its file's name without .hvia."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Where the blinks and glances start from: the same seed and sound give the same pictures."""
    source: dict[str, Any] = Field(default_factory=dict)
    """This session's options for the audio source."""
    transport: dict[str, Any] = Field(default_factory=dict)
    """This session's options for the transport."""
    renderer: dict[str, Any] = Field(default_factory=dict)
    """This session's options for the renderer."""
    limits: SessionLimits = Field(default_factory=SessionLimits)
    """How long it may last, where that is less than the deployment allows."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What ``repr`` and ``str`` show: everything but secrets."""
        return [(name, discreet(value)) for name, value in super().__repr_args__()]


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """How a segment ended: exactly one for every segment that began.

    ``samples`` were really played, counted at the source's ``rate``; ``interrupted`` is False for a natural end.
    """

    segment: str
    samples: int
    rate: int
    interrupted: bool

    @property
    def position(self) -> float:
        """Seconds played."""
        return self.samples / self.rate


@dataclass
class SessionStats:
    """A session's figures so far. Times in seconds."""

    frames: int = 0
    idle_frames: int = 0
    late_frames: int = 0
    dropped_frames: int = 0
    underruns: int = 0
    segments: int = 0
    spoken: float = 0.0
    """Seconds of finished segments that were really played."""
    shown: float = 0.0
    """Seconds of media given to the transport, silence included."""
    first_frame: float | None = None
    """Seconds from the pipeline's start until the transport had the first frame."""
    state: Literal["starting", "running", "closing", "closed"] = "starting"
    avatar: str = ""
    """The id of the avatar that is shown now."""
    reason: str = ""
    """Why it ended, once it has; the same words that the room was told."""


@dataclass
class SessionContext:
    """What the parts of one session share: the request, resources by type, metrics, an id for the log."""

    session_id: str
    request: SessionRequest
    metrics: Metrics = field(default_factory=NoMetrics)
    resources: dict[type[Any], Any] = field(default_factory=dict)
    reason: str = ""
    """Why the session ends; set before its parts are closed."""
    last_sign: float = float("-inf")
    """When a part last said that somebody is there, in the event loop's seconds."""
    notes: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """What parts would leave to a session that takes this one's place, should its process die: by a part's name, a
    function that says it as plain data (JSON)."""
    inherited: Mapping[str, Any] = field(default_factory=dict)
    """What such a predecessor left, by the same names; empty for a session that is nobody's successor."""
    on_note: Callable[[], None] = lambda: None
    """Called by a part whose note has changed in a way that must not be lost (an utterance began or ended)."""

    def sign_of_life(self) -> None:
        """Somebody is there (has joined, spoken, touched something): the idle timeout counts from now.

        To be called from a task of the session's event loop.
        """
        self.last_sign = anyio.current_time()

    def provide(self, kind: type[T], resource: T) -> None:
        """Put a resource (a room, say) where other parts of this session find it."""
        self.resources[kind] = resource

    def resource(self, kind: type[T]) -> T:
        """The resource of that type; raises KeyError naming the type if no part provided it."""
        try:
            found: T = self.resources[kind]
        except KeyError:
            raise KeyError(f"no part of this session provides a {kind.__module__}.{kind.__qualname__}") from None
        return found


class SpeechStream(Protocol):
    """One segment being written. Also the return of ``SessionHandle.speak``."""

    @property
    def id(self) -> str:
        """The segment's id, unique in its session."""

    @property
    def played(self) -> int:
        """Samples really played so far, at the rate in which it is written."""

    async def write(self, pcm: NDArray[np.generic]) -> None:
        """Add sound (see ``visavis.media.as_pcm`` for what it may be). Waits while the pipeline is full.

        After an interrupt, or once the segment has ended, what is written is discarded silently:
        a sender that has not heard of the interrupt yet is not at fault. Raises ValueError for malformed sound.
        """

    async def end(self) -> None:
        """No more sound will come. May be called twice."""

    async def wait_started(self) -> bool:
        """Wait until its first sample has been played; False if it ended unheard."""

    async def wait_finished(self) -> PlaybackFinished:
        """Wait until it has been played, interrupted or dropped."""


class SessionHandle(ABC):
    """The only way anyone outside reaches a session: messages, alike in this process and in a worker's."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The session's id."""

    @abstractmethod
    async def stats(self) -> SessionStats:
        """Figures so far."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Stop what is being said and what waits to be said. Does nothing if all is silent."""

    @abstractmethod
    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        """Open a segment, by the speech floor's policy."""

    @abstractmethod
    async def swap(self, avatar: str) -> None:
        """Show another avatar from the next frame on: same tracks, same speech.

        Raises AvatarError if there is none of that id, or if its pictures are of another size or rate.
        """

    @property
    @abstractmethod
    def limits(self) -> SessionLimits:
        """The limits that apply: the request's and the deployment's together. None: no limit."""

    @abstractmethod
    async def close(self, reason: str = "closed", *, finish: bool = False) -> None:
        """End the session; every open segment gets its PlaybackFinished first.

        ``finish`` lets what was begun be said to its end first, and refuses new speech. It returns at once.
        """

    @abstractmethod
    async def wait(self) -> None:
        """Wait for the session's end; raises its error if it failed."""


def options_of(request: SessionRequest, kind: str) -> Mapping[str, Any]:
    """The request's section for a kind of part."""
    section: Mapping[str, Any] = getattr(request, kind, {})
    return section
