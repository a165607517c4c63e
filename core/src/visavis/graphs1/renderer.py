"""The base of every renderer of engine ``graphs/1``: a subclass only says how a graph is executed."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2

from visavis.errors import RendererError
from visavis.graphs1.avatar import Graphs1Avatar, Shared
from visavis.graphs1.executor import GraphExecutor
from visavis.graphs1.painter import Painter, ProcessorPainter, Scene
from visavis.graphs1.session import Graphs1Session
from visavis.graphs1.weights import Weights
from visavis.hvia import Hvia, Manifest
from visavis.hvia.graphs import load_graphs
from visavis.interfaces.renderer import Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import Metrics, NoMetrics

Made = TypeVar("Made")


class Graphs1Renderer(Renderer):
    """Draws ``graphs/1`` avatars with the executors of a subclass.

    ``packs`` are folders of graphs that avatars refer to; ``cache`` is the folder for decoded clips (default: see
    :func:`visavis.graphs1.clips.cache_folder`). ``metrics`` gets ``visavis_render_seconds{stage=...}`` for the stages
    motion, face (one call for a whole batch) and compose (one picture; a device's painter: one batch).
    """

    engines = frozenset({"graphs/1"})

    def __init__(
        self,
        *,
        max_batch: int = 16,
        packs: Sequence[Path] = (),
        cache: Path | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        # Its threads would spin beside the engine's for planes this small.
        cv2.setNumThreads(1)
        self.max_batch = max_batch
        self.metrics: Metrics = metrics or NoMetrics()
        self._packs = tuple(packs)
        self._cache = cache
        self._lock = threading.Lock()
        self._loaded: dict[str, Shared] = {}

    @abstractmethod
    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """Something that executes an ONNX file (checked already). ``name`` says which, for messages and logs."""

    def make_motion(self, manifest: Manifest, model: bytes, *, name: str) -> GraphExecutor:
        """What executes the checked motion graph; a subclass that has to know its shapes ahead overrides this."""
        return self.make_executor(model, name=name)

    def make_painter(self, scene: Scene, face: bytes, *, name: str) -> Painter:
        """What draws faces and lays them; ``face`` is the checked face graph, ``name`` as for an executor.

        This one lays on the processor what ``make_executor``'s executor draws. A subclass may do both on its device.
        """
        return ProcessorPainter(scene, self.make_executor(face, name=name))

    def load(self, avatar: Hvia) -> Graphs1Avatar:
        """Load an avatar, or share it if it is loaded already. Blocking.

        Raises AvatarInvalid if it is of another engine, or a graph or the clip is not what the format asks for,
        RendererError if the engine refuses or there is no room.
        """
        if avatar.manifest.engine not in self.engines:
            said = f"it needs the engine {avatar.manifest.engine!r}, which this renderer does not read"
            raise avatar.fault(said, hint="`visavis plugins` lists the renderers")
        with self._lock:
            shared = self._loaded.get(avatar.digest)
            if shared is None:
                shared = Shared(self._loaded, avatar.digest, self._lock)
                self._loaded[avatar.digest] = shared
            shared.users += 1
        try:
            with shared.loading:
                if shared.weights is None:
                    shared.weights = self._weights(avatar)
                return Graphs1Avatar(shared, shared.weights)
        except BaseException:
            shared.leave()
            raise

    def _weights(self, avatar: Hvia) -> Weights:
        graphs = load_graphs(avatar, packs=self._packs)
        named = avatar.id, avatar.path.name

        def painter(scene: Scene) -> Painter:
            return _made(named, "face", lambda name: self.make_painter(scene, graphs.face.data, name=name))

        motion = _made(named, "motion", lambda name: self.make_motion(avatar.manifest, graphs.motion.data, name=name))
        try:
            return Weights(avatar, motion, painter, self._timed, self._cache)
        except BaseException:
            motion.close()
            raise

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick for every session; see :meth:`visavis.interfaces.renderer.Renderer.step`."""
        own = self._own(sessions)
        if not own:
            return []
        weights = own[0].weights
        rows = list(zip(own, inputs, strict=True))
        self._move(weights, rows)
        drawing = [session.advance(given) for session, given in rows]
        shown = [session for session, draws in zip(own, drawing, strict=True) if draws]
        self._draw(weights, shown)
        pictures = iter(self._paint(weights, shown))
        return [next(pictures) if draws else None for draws in drawing]

    def _own(self, sessions: Sequence[RenderSession]) -> list[Graphs1Session]:
        if len(sessions) > self.max_batch:
            raise ValueError(f"{len(sessions)} sessions in a step; at most {self.max_batch} were declared")
        own = [session for session in sessions if isinstance(session, Graphs1Session)]
        if len(own) != len(sessions) or len({id(session) for session in own}) != len(own):
            raise ValueError("a step takes each of this renderer's sessions once, and no others")
        if len({id(session.weights) for session in own}) > 1:
            raise ValueError("the sessions of a step must share one batch key")
        for session in own:
            session.check_open()
        return own

    @staticmethod
    def _move(weights: Weights, rows: Sequence[tuple[Graphs1Session, RenderInput]]) -> None:
        calls = [(session, sound) for session, given in rows if (sound := session.hear(given)) is not None]
        if not calls:
            return
        expressions, states = weights.move([sound for _, sound in calls], [session.state for session, _ in calls])
        for row, (session, _) in enumerate(calls):
            # A copy: a view would keep the whole batch's memory for as long as this session's state lives.
            session.take(expressions[row].copy(), states[row].copy())

    @staticmethod
    def _draw(weights: Weights, sessions: Sequence[Graphs1Session]) -> None:
        wanting = [(session, wanted) for session in sessions if (wanted := session.wants_region) is not None]
        if not wanting:
            return
        regions = weights.draw([wanted for _, wanted in wanting], [session.base_frame for session, _ in wanting])
        for (session, _), region in zip(wanting, regions, strict=True):
            session.give_region(region)

    @staticmethod
    def _paint(weights: Weights, sessions: Sequence[Graphs1Session]) -> list[VideoFrame]:
        kept = [session.keep() for session in sessions]
        laying = [session for session, picture in zip(sessions, kept, strict=True) if picture is None]
        at = [session.base_frame for session in laying]
        laid = iter(weights.lay([session.region for session in laying], at) if laying else ())
        return [
            session.laid(next(laid)) if picture is None else picture
            for session, picture in zip(sessions, kept, strict=True)
        ]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.metrics.observe("visavis_render_seconds", time.perf_counter() - start, stage=stage)

    def close(self) -> None:
        """Nothing to let go of here: weights go with their avatars. May be called twice."""


def _made(avatar: tuple[str, str], which: str, make: Callable[[str], Made]) -> Made:
    """What runs a graph. Whatever the engine raises becomes a RendererError that names graph and avatar."""
    try:
        return make(f"{avatar[0]}/{which}")
    except RendererError:
        raise
    except Exception as error:  # an engine may raise anything; its words travel with the cause
        said = " ".join(str(error).split())
        raise RendererError(f"{avatar[1]}: the engine refuses its {which} graph: {said}") from error
