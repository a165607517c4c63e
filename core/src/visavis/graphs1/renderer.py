"""The base of every renderer of engine ``graphs/1``: a subclass only says how a graph is executed."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

from visavis.errors import RendererError
from visavis.graphs1.avatar import Graphs1Avatar
from visavis.graphs1.executor import GraphExecutor
from visavis.graphs1.graphs import FaceGraph, MotionGraph
from visavis.graphs1.motion import Vector
from visavis.graphs1.painting import Painter
from visavis.graphs1.scene import Scene
from visavis.graphs1.session import Graphs1Session
from visavis.graphs1.sharing import Sharing
from visavis.graphs1.weights import Weights
from visavis.hvia import Hvia, Manifest, Precision
from visavis.hvia.graphs import CheckedGraph, GraphOffer, Which, graph_name, load_graphs
from visavis.interfaces.renderer import Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import Metrics, NoMetrics


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
        self._weights: Sharing[Weights] = Sharing()
        self._motions: Sharing[MotionGraph] = Sharing()
        self._painters: Sharing[Painter] = Sharing()

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

    def make_motion(self, manifest: Manifest, graph: CheckedGraph, *, name: str) -> GraphExecutor:
        """What executes the motion graph; a subclass that has to know its shapes ahead overrides this."""
        return self.make_executor(graph.data, name=name)

    def make_painter(self, scene: Scene, graph: CheckedGraph, *, name: str) -> Painter:
        """What draws faces by the face graph and lays them: by an executor, and on the processor.

        A subclass may do both on its device; if what it makes serves one scene alone, :meth:`painter_key` says so.
        """
        return FaceGraph(self.make_executor(graph.data, name=name), graph.precision, scene.manifest.face, self._timed)

    def painter_key(self, scene: Scene, graph: CheckedGraph) -> str:
        """Avatars whose keys are equal share a painter."""
        return graph.sha256

    def _load(self, avatar: Hvia) -> Weights:
        graphs = load_graphs(avatar, packs=self._packs, choose=self.prefer)
        scene = Scene(avatar, self._timed, self._cache)
        with ExitStack() as undo:
            motion = self._motions.take(graphs.motion.sha256, lambda: self._motion(avatar, graphs.motion))
            undo.callback(motion.close)
            key = self.painter_key(scene, graphs.face)
            painter = self._painters.take(key, lambda: self._painter(avatar, scene, graphs.face))
            undo.callback(painter.close)
            weights = Weights(scene, motion, painter)
            undo.pop_all()
        return weights

    def _motion(self, avatar: Hvia, graph: CheckedGraph) -> MotionGraph:
        with _refusing(avatar, "motion", graph) as name:
            executor = self.make_motion(avatar.manifest, graph, name=name)
        return MotionGraph(executor, graph.precision, avatar.manifest.motion, self._timed)

    def _painter(self, avatar: Hvia, scene: Scene, graph: CheckedGraph) -> Painter:
        with _refusing(avatar, "face", graph) as name:
            return self.make_painter(scene, graph, name=name)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick for every session; see :meth:`visavis.interfaces.renderer.Renderer.step`."""
        own = self._own(sessions)
        if not own:
            return []
        rows = list(zip(own, inputs, strict=True))
        self._move(rows)
        drawing = [session.advance(given) for session, given in rows]
        shown = [session for session, draws in zip(own, drawing, strict=True) if draws]
        self._draw(shown)
        pictures = iter(self._lay(shown))
        return [next(pictures) if draws else None for draws in drawing]

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
        """One call of each painter; sessions of several avatars may share it."""
        wanting: dict[Painter, list[tuple[Graphs1Session, Vector]]] = {}
        for session in sessions:
            if (wanted := session.wants_region) is not None:
                wanting.setdefault(session.weights.face, []).append((session, wanted))
        for painter, rows in wanting.items():
            drawn = painter.draw([wanted for _, wanted in rows], [session.place for session, _ in rows])
            for (session, _), region in zip(rows, drawn, strict=True):
                session.give_region(region)

    @staticmethod
    def _lay(sessions: Sequence[Graphs1Session]) -> list[VideoFrame]:
        """The pictures of all: kept ones, and those that each painter lays in one call."""
        kept = {id(session): session.keep() for session in sessions}
        laying: dict[Painter, list[Graphs1Session]] = {}
        for session in sessions:
            if kept[id(session)] is None:
                laying.setdefault(session.weights.face, []).append(session)
        for painter, rows in laying.items():
            laid = painter.lay([session.region for session in rows], [session.place for session in rows])
            kept.update((id(session), session.laid(data)) for session, data in zip(rows, laid, strict=True))
        return [picture for session in sessions if (picture := kept[id(session)]) is not None]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.metrics.observe("visavis_render_seconds", time.perf_counter() - start, stage=stage)

    def close(self) -> None:
        """Nothing to let go of here: weights go with their avatars. May be called twice."""


@contextmanager
def _refusing(avatar: Hvia, which: Which, graph: CheckedGraph) -> Iterator[str]:
    """The name of a graph that is brought to an engine, whose refusal becomes a RendererError that names it."""
    try:
        yield f"{avatar.id}/{which}"
    except RendererError:
        raise
    except Exception as error:  # an engine may raise anything; its words travel with the cause
        said, what = " ".join(str(error).split()), graph_name(which, graph.precision)
        raise RendererError(f"{avatar.path.name}: the engine refuses its {what}: {said}") from error
