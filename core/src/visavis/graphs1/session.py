"""One session's face: what it has heard, how it behaves, and which base frame comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visavis.errors import RendererError
from visavis.graphs1.behaviours import Behaviours
from visavis.graphs1.compose import Plane
from visavis.graphs1.motion import Easing, SoundStream, Vector
from visavis.graphs1.painting import Place
from visavis.graphs1.weights import Weights
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.media import VideoFrame

TO_REST: Final = 0.16
"""Seconds in which the face comes to rest when the sound ends."""
HELD: Final = 1.0
"""Seconds for which a face at rest may keep a region that is merely like the one it should have."""
RESET_FRAMES: Final = 5
"""Frames in which the face leaves what it held at a reset."""
REMEMBERED: Final = 64
"""Pictures of which pose and face are remembered: more than a pipeline draws ahead."""


class Graphs1Session(RenderSession):
    """A session of a ``graphs/1`` avatar. Used by one step at a time.

    The renderer calls :meth:`hear`, :meth:`take` (with what the motion graph put out), :meth:`advance`,
    :meth:`give_region` and :meth:`keep` or :meth:`laid` in this order; a bench may call :meth:`draw_expression`
    instead.
    """

    def __init__(self, weights: Weights, seed: int, leave: Callable[[], None]) -> None:
        self.weights = weights
        manifest, fps = weights.manifest, weights.format.video.fps
        self._leave: Callable[[], None] | None = leave
        self._stream = SoundStream(manifest.motion, fps)
        self._rest: Vector = np.zeros(weights.coefficients, np.float32)
        self._face: Vector = self._rest
        self._drawn: Vector = self._rest
        self._easing = Easing(weights.coefficients)
        self._to_rest = max(1, round(TO_REST * fps))
        self._speaking = False
        self._at = 0
        self._past: deque[tuple[Vector, int]] = deque(maxlen=REMEMBERED)  # face and base frame of each picture
        self._picture: VideoFrame | None = None
        self._kept = False
        self._behaviours: Behaviours | None = None
        if manifest.motion.profile == "arkit-52":
            self._behaviours = Behaviours(manifest.motion.coefficients, fps, f"{weights.digest}/{seed}")
        follows = set(manifest.face.inputs) - {"expression"}
        self._face_follows_base = bool(follows)
        self._region: Any = None  # what the painter drew
        self._region_of: tuple[Vector, int] = (self._rest, -1)
        self._region_face: Vector | None = None
        self._most_held = round(HELD * fps)
        self._held = 0  # pictures that show the region

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._leave is None

    @property
    def last_expression(self) -> Vector:
        """The coefficients of the last picture, behaviours included: a copy, float32 ``[E]``."""
        return self._drawn.copy()

    @property
    def state(self) -> NDArray[np.float32]:
        """The motion graph's state ``[S]``."""
        return self._stream.state

    @property
    def base_frame(self) -> int:
        """The index of the next picture's base frame in the idle clip."""
        return self._at

    def hear(self, given: RenderInput) -> NDArray[np.float32] | None:
        """The sound of a call of the motion graph ``[hop]``, if this step's sound fills one."""
        if given.pcm is None:
            return None
        wanted = (self.weights.format.hop,)
        if given.pcm.shape != wanted or given.pcm.dtype != np.float32:
            raise ValueError(f"a step's sound must be float32 {wanted}, not {given.pcm.dtype} {given.pcm.shape}")
        return self._stream.hear(given.pcm)

    def take(self, expressions: NDArray[np.float32], state: NDArray[np.float32]) -> None:
        """What the motion graph made of it: ``[T, E]`` and ``[S]``."""
        self._stream.take(expressions, state)

    def advance(self, given: RenderInput) -> bool:
        """Settle this step's expression; False if no picture is wanted."""
        heard = self._stream.next() if given.pcm is not None else None
        if not given.draw:
            return False
        if given.pcm is None:
            if self._speaking:
                self._speaking = False
                self._easing.start(self._face, self._to_rest)
            self._stream.pause()
            target = self._rest
        else:
            self._speaking = True
            target = self._face if heard is None else heard
        self._show(self._easing.towards(target), behaviours=True)
        return True

    def _show(self, face: Vector, *, behaviours: bool) -> None:
        self._face = face
        if self._behaviours is None:
            self._drawn = face
        elif behaviours:
            self._drawn = self._behaviours.step(face, self.weights.poses[self._at])
        else:
            self._drawn = np.clip(face, 0.0, 1.0)

    @property
    def wants_region(self) -> Vector | None:
        """The expression for the face graph; None if the region of the last picture still fits."""
        expression, at = self._region_of
        if self._region is None or (at != self._at and self._face_follows_base):
            return self._drawn
        if np.array_equal(expression, self._drawn) or self._looks_the_same(expression):
            return None
        return self._drawn

    def _looks_the_same(self, expression: Vector) -> bool:
        """Whether a face at rest may keep its region although eyes or brows have moved a little."""
        resting = not self._speaking and self._face is self._region_face and self._held < self._most_held
        return resting and self._behaviours is not None and self._behaviours.alike(expression, self._drawn)

    def give_region(self, region: Any) -> None:
        """What the painter drew of :attr:`wants_region`."""
        self._region = region
        self._region_of = (self._drawn, self._at)
        self._region_face = self._face
        self._held = 0

    def keep(self) -> VideoFrame | None:
        """The last picture once more, where that does for this step; None if one is to be laid."""
        if self._region is None:
            raise RuntimeError("keep comes after give_region")
        kept = self._may_keep()
        if kept is not None:
            self._kept = True
            self._pass()
        return kept

    def _pass(self) -> int:
        """Time passes by one frame; returns the base frame that it left."""
        at, self._at = self._at, (self._at + 1) % len(self.weights.spots)
        self._past.append((self._face, at))
        self._held += 1
        return at

    @property
    def place(self) -> Place:
        """Where the next picture's face lands."""
        return self.weights.scene, self._at

    @property
    def region(self) -> Any:
        """What the painter is to lay at :attr:`place`."""
        return self._region

    def laid(self, data: Plane) -> VideoFrame:
        """This step's picture, laid; the next one stands on the next base frame."""
        at, self._kept = self._pass(), False
        weights = self.weights
        video = weights.format.video
        alpha = None if weights.mattes is None else weights.mattes[at]
        self._picture = VideoFrame(video.width, video.height, data, alpha)
        return self._picture

    def _may_keep(self) -> VideoFrame | None:
        """The last picture, where a face at rest has not moved so far that it could be seen: once, then a new one.

        Laying the region and encoding what comes of it are most of what an idle session costs.
        """
        same_face = self._held > 0 and not self._speaking and not self._kept
        return self._picture if same_face and self.weights.still(self._at) else None

    def draw_expression(self, coefficients: NDArray[np.float32], *, behaviours: bool = False) -> VideoFrame:
        """Draw coefficients ``[E]`` that did not come from the motion graph: an oracle's, a puppeteer's, a test's.

        ``behaviours`` lays blinks, gaze and brows over them. Time passes by one frame, as in a step.
        Raises ValueError for a wrong shape or what is not a number, RendererError.
        """
        face = np.array(coefficients, np.float32)
        if face.shape != self._rest.shape or not np.isfinite(face).all():
            raise ValueError(f"{self._rest.shape[0]} numbers are wanted, not {face.shape}")
        self.check_open()
        self._show(face, behaviours=behaviours)
        if (wanted := self.wants_region) is not None:
            (region,) = self.weights.face.draw([wanted], [self.place])
            self.give_region(region)
        return self.laid(self.weights.face.lay([self._region], [self.place])[0])

    def rewind(self, pictures: int) -> None:
        """Take up the pose and the face of before the last so many pictures. Blinks and glances go on."""
        for _ in range(min(pictures, len(self._past))):
            _, self._at = self._past.pop()
            self._face = self._past[-1][0] if self._past else self._rest
            self._picture = None  # it is one of those that nobody has seen

    def reset(self) -> None:
        """After an interrupt: forget the sound heard; keep the pose, and leave what the face held."""
        self._stream.reset()
        # From rest there is nothing to leave, and new speech begins as sharply as any.
        self._easing.start(self._face, RESET_FRAMES if self._face.any() else 0)
        self._speaking = False

    def check_open(self) -> None:
        """Raise RendererError if it was closed."""
        if self.closed:
            raise RendererError(f"a session of {self.weights.where} was used after it was closed")

    def close(self) -> None:
        """Let go. May be called twice."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
