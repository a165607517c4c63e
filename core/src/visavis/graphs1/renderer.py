"""The base of every renderer of engine ``graphs/1``: a subclass only says how a graph is executed."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import cv2

from visavis.errors import RendererError
from visavis.graphs1.avatar import Graphs1Avatar
from visavis.graphs1.executor import GraphExecutor
from visavis.graphs1.graphs import FaceGraph, MotionGraph
from visavis.graphs1.motion import Vector
from visavis.graphs1.session import Graphs1Session
from visavis.graphs1.sharing import Sharing
from visavis.graphs1.weights import Weights
from visavis.hvia import Hvia, Precision
from visavis.hvia.graphs import CheckedGraph, GraphOffer, Which, graph_name, load_graphs
from visavis.interfaces.renderer import Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import Metrics, NoMetrics


class Graphs1Renderer(Renderer):
    """Draws ``graphs/1`` avatars with the executors of a subclass.

    ``packs`` are folders of graphs that avatars refer to; ``cache`` is the folder for decoded clips (default: see
    :func:`visavis.graphs1.clips.cache_folder`). ``metrics`` gets ``visavis_render_seconds{stage=...}`` for the stages
    motion, face (one call for a whole batch) and compose (one picture).
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
        self._weights: Sharing[Weights] = Sharing()
        self._motions: Sharing[MotionGraph] = Sharing()
        self._faces: Sharing[FaceGraph] = Sharing()

    @abstractmethod
    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """Something that executes an ONNX file (checked already). ``name`` says which, for messages and logs."""

    def load(self, avatar: Hvia) -> Graphs1Avatar:
        """Load an avatar, or share it if it is loaded already. Blocking.

        Raises AvatarInvalid if it is of another engine, or a graph or the clip is not what the format asks for,
        RendererError if the engine refuses or there is no room.
        """
        if avatar.manifest.engine not in self.engines:
            said = f"it needs the engine {avatar.manifest.engine!r}, which this renderer does not read"
            raise avatar.fault(said, hint="`visavis plugins` lists the renderers")
        return Graphs1Avatar(self._weights.take(avatar.digest, lambda: self._load(avatar)))

    def prefer(self, offer: GraphOffer) -> Precision:
        """Which of the precisions that a graph comes in is executed: ``fp32``, unless a subclass says otherwise."""
        return "fp32"

    def _load(self, avatar: Hvia) -> Weights:
        graphs = load_graphs(avatar, packs=self._packs, choose=self.prefer)
        with ExitStack() as undo:
            motion = self._motions.take(graphs.motion.sha256, partial(self._motion, avatar, graphs.motion))
            undo.callback(motion.close)
            face = self._faces.take(graphs.face.sha256, partial(self._face, avatar, graphs.face))
            undo.callback(face.close)
            weights = Weights(avatar, motion, face, self._timed, self._cache)
            undo.pop_all()
        return weights

    def _motion(self, avatar: Hvia, graph: CheckedGraph) -> MotionGraph:
        executor = self._executor(avatar, graph, "motion")
        return MotionGraph(executor, graph.precision, avatar.manifest.motion, self._timed)

    def _face(self, avatar: Hvia, graph: CheckedGraph) -> FaceGraph:
        executor = self._executor(avatar, graph, "face")
        return FaceGraph(executor, graph.precision, avatar.manifest.face, self._timed)

    def _executor(self, avatar: Hvia, graph: CheckedGraph, which: Which) -> GraphExecutor:
        try:
            return self.make_executor(graph.data, name=f"{avatar.id}/{which}")
        except RendererError:
            raise
        except Exception as error:  # an engine may raise anything; its words travel with the cause
            said, what = " ".join(str(error).split()), graph_name(which, graph.precision)
            raise RendererError(f"{avatar.path.name}: the engine refuses its {what}: {said}") from error

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick for every session; see :meth:`visavis.interfaces.renderer.Renderer.step`."""
        own = self._own(sessions)
        if not own:
            return []
        rows = list(zip(own, inputs, strict=True))
        self._move(rows)
        drawing = [session.advance(given) for session, given in rows]
        self._draw([session for session, draws in zip(own, drawing, strict=True) if draws])
        return [session.paint() if draws else None for session, draws in zip(own, drawing, strict=True)]

    def _own(self, sessions: Sequence[RenderSession]) -> list[Graphs1Session]:
        if len(sessions) > self.max_batch:
            raise ValueError(f"{len(sessions)} sessions in a step; at most {self.max_batch} were declared")
        own = [session for session in sessions if isinstance(session, Graphs1Session)]
        if len(own) != len(sessions) or len({id(session) for session in own}) != len(own):
            raise ValueError("a step takes each of this renderer's sessions once, and no others")
        if len({session.weights.batch_key for session in own}) > 1:
            raise ValueError("the sessions of a step must share one batch key")
        for session in own:
            session.check_open()
        return own

    @staticmethod
    def _move(rows: Sequence[tuple[Graphs1Session, RenderInput]]) -> None:
        calls = [(session, sound) for session, given in rows if (sound := session.hear(given)) is not None]
        if not calls:
            return
        sessions = [session for session, _ in calls]
        expressions, states = sessions[0].weights.motion.move(
            [sound for _, sound in calls], [session.state for session in sessions], [s.weights.where for s in sessions]
        )
        for row, session in enumerate(sessions):
            # A copy: a view would keep the whole batch's memory for as long as this session's state lives.
            session.take(expressions[row].copy(), states[row].copy())

    @staticmethod
    def _draw(sessions: Sequence[Graphs1Session]) -> None:
        """One call of each face graph; sessions of several avatars may share it."""
        wanting: dict[FaceGraph, list[tuple[Graphs1Session, Vector]]] = {}
        for session in sessions:
            if (wanted := session.wants_region) is not None:
                wanting.setdefault(session.weights.face, []).append((session, wanted))
        for face, rows in wanting.items():
            places = [(session.weights, session.base_frame) for session, _ in rows]
            regions = face.draw(
                [wanted for _, wanted in rows],
                [weights.poses[at] for weights, at in places],
                [weights.base(at) for weights, at in places],
                [weights.where for weights, _ in places],
            )
            for (session, _), region in zip(rows, regions, strict=True):
                session.give_region(region)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.metrics.observe("visavis_render_seconds", time.perf_counter() - start, stage=stage)

    def close(self) -> None:
        """Nothing to let go of here: weights go with their avatars. May be called twice."""
