"""The contract of a renderer: it loads an avatar once a process, and draws for many sessions in one call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visavis.metrics import Metrics, NoMetrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visavis.hvia import Hvia
    from visavis.media import VideoFormat, VideoFrame


@dataclass(frozen=True, slots=True)
class RenderFormat:
    """What a loaded avatar draws and hears.

    ``hop`` samples at ``sample_rate`` (mono) go with one video frame. A picture needs the sound of
    ``look_ahead`` further frames: the picture that step k returns belongs to the sound of step k - look_ahead.
    """

    video: VideoFormat
    sample_rate: int
    hop: int
    look_ahead: int


@dataclass(frozen=True, slots=True)
class RenderInput:
    """What one session brings to a step.

    ``pcm``: float32 ``[hop]``, the next sound of the stream; None for an idle picture, for which no sound is heard
    and the face goes to rest.
    ``draw``: False primes the look-ahead: the sound is heard, no picture is drawn and no time passes for the body.
    """

    pcm: NDArray[np.float32] | None
    draw: bool = True


class RenderSession(ABC):
    """The state of one session's face: small, cheap to open, owned by one session."""

    @abstractmethod
    def reset(self) -> None:
        """After an interrupt: forget the sound heard; keep the pose and blend the face to rest."""

    def rewind(self, pictures: int) -> None:
        """Before a reset: the last so many pictures were drawn ahead of their time and will not be shown.

        A session that can takes up the pose and the face of the last one that is; others would be seen to jump.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go. May be called twice."""


class LoadedAvatar(ABC):
    """An avatar whose weights are in memory once, for all its sessions."""

    @property
    @abstractmethod
    def format(self) -> RenderFormat:
        """What it draws and hears."""

    @property
    @abstractmethod
    def batch_key(self) -> Hashable:
        """Sessions with equal keys may share one ``Renderer.step``."""

    @abstractmethod
    def open(self, *, seed: int = 0) -> RenderSession:
        """A new session at the start of the idle clip. Equal seeds and sound give equal pictures."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the weights, once no session is open. May be called twice."""


class Renderer(ABC):
    """Executes avatars on some engine. One for the whole process."""

    engines: frozenset[str] = frozenset({"graphs/1"})
    """The manifest engines it reads."""
    max_batch: int = 1
    """The most sessions that one ``step`` may be given."""
    metrics: Metrics = NoMetrics()
    """Where its figures go; whoever makes the renderer may set it before the first avatar is loaded."""

    @abstractmethod
    def load(self, avatar: Hvia) -> LoadedAvatar:
        """Load an avatar. Blocking; called off the event loop. The renderer does not close ``avatar``.

        Raises AvatarInvalid or RendererError with a reason.
        """

    @abstractmethod
    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick for every session, whose avatars share one batch key. Blocking; called off the event loop.

        Returns a picture for each session whose input says ``draw``, else None. ``step([a, b])`` equals
        ``step([a])``, ``step([b])`` within one grey level.
        """

    def close(self) -> None:
        """Let go of devices. May be called twice."""
