"""``renderer: {use: auto}`` takes the quickest renderer that works here, and says why."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from visavis.choosing import AutoRenderer, Trial, candidates, verdict
from visavis.component import ComponentConfig
from visavis.errors import RendererError
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Tensors
from visavis.hookspecs import hookimpl
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.plugins import Kind, RendererPlugin
from visavis.registry import Origin, Registry
from visavis.testing.tiny import tiny_avatar


class Lag(ComponentConfig):
    """How slow it is."""

    seconds: float = 0.0


class Reference:
    def __init__(self, model: bytes) -> None:
        self.evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))

    def run(self, feeds: Tensors) -> Tensors:
        return dict(zip(self.evaluator.output_names, self.evaluator.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        pass


class Lagging(Graphs1Renderer):
    """Spins for a while in every step, by the processor's time: a busy neighbour does not change who is quicker."""

    def __init__(self, name: str, lag: Lag) -> None:
        super().__init__(max_batch=4)
        self.name, self.lag, self.batches, self.closed = name, lag, set(), False

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        return Reference(model)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        began = time.thread_time()
        while time.thread_time() - began < self.lag.seconds:
            pass
        self.batches.add(len(sessions))
        return super().step(sessions, inputs)

    def close(self) -> None:
        self.closed = True


class Plugin:
    """Renderers for a registry of one's own."""

    def __init__(self, *records: RendererPlugin) -> None:
        self.records = records

    @hookimpl
    def visavis_renderers(self) -> Sequence[RendererPlugin]:
        return self.records


MADE: list[Lagging] = []


def record(name: str, seconds: float, **more: Any) -> RendererPlugin:
    class Options(Lag):
        """Its own default."""

        seconds: float = 0.0

    Options.model_fields["seconds"].default = seconds
    Options.model_rebuild(force=True)

    def make(options: Lag) -> Lagging:
        MADE.append(Lagging(name, options))
        return MADE[-1]

    return RendererPlugin(name=name, summary="For tests.", config=Options, factory=more.pop("factory", make), **more)


def registry(*records: RendererPlugin) -> Registry:
    made = Registry()
    made.add(Plugin(*records), Origin("visavis-tests", "1", "tests = tests"))
    assert not made.broken
    return made


def refuse(_: Lag) -> Lagging:
    raise RuntimeError("the engine\nbroke")


@pytest.fixture(autouse=True)
def clean(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("auto"))


def loaded(renderer: AutoRenderer, path: Path) -> Callable[[], list[VideoFrame | None]]:
    with open_hvia(path) as file:
        session = renderer.load(file).open()
    return lambda: renderer.step([session], [RenderInput(None)])


def test_the_quickest_draws_and_the_log_says_why(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "visavis.renderer.auto")
    lame = record("lame", 0.0, check=lambda: "it has no leg to stand on")
    auto = AutoRenderer(registry(record("slow", 0.4), record("quick", 0.0), lame, record("broken", 0, factory=refuse)))
    auto.metrics = MemoryMetrics()
    draw = loaded(auto, path)
    assert draw() != [None]
    by_name = {made.name: made for made in MADE}
    assert by_name["slow"].closed
    assert not by_name["quick"].closed
    assert by_name["slow"].batches == {1}  # hopeless alone: nobody waits for several
    assert by_name["quick"].batches == {1, 4}
    assert auto.max_batch == 4
    assert by_name["quick"].metrics is auto.metrics
    (said,) = [row.getMessage() for row in caplog.records]
    assert said.startswith("quick ")
    assert "is the quickest here" in said
    assert "slow " in said
    assert "lame cannot be used (it has no leg to stand on)" in said
    assert "broken cannot be used (the engine broke)" in said
    auto.close()
    assert by_name["quick"].closed


def test_it_chooses_once(path: Path) -> None:
    auto = AutoRenderer(registry(record("one", 0.0), record("other", 0.3)))
    loaded(auto, path)
    made = len(MADE)
    loaded(auto, path)
    assert len(MADE) == made == 2


def test_options_that_a_renderer_proposes_are_tried(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "visavis.renderer.auto")
    auto = AutoRenderer(registry(record("slow", 0.3, trials=lambda: [{"seconds": 0.0}])))
    loaded(auto, path)
    assert caplog.records[0].getMessage().startswith("slow (seconds: 0.0) ")


def test_among_leaves_others_out() -> None:
    found = list(candidates(registry(record("one", 0.0), record("other", 0.0)), among=["other"]))
    assert [candidate.name for candidate in found] == ["other"]


def test_where_nothing_works_every_reason_is_told(path: Path) -> None:
    lame = record("lame", 0.0, check=lambda: "it has no leg to stand on")
    auto = AutoRenderer(registry(lame, record("broken", 0.0, factory=refuse)))
    with pytest.raises(RendererError, match=r"no renderer works here: .*visavis doctor") as caught:
        loaded(auto, path)
    assert "lame: it has no leg to stand on" in str(caught.value)
    assert "broken: the engine broke" in str(caught.value)
    with pytest.raises(RendererError, match="there is no renderer to choose from"):
        AutoRenderer(registry())


def test_alone_is_said_too() -> None:
    assert verdict([Trial("one", 8, 0.002)]) == (
        "one 2.00 ms a picture, 8 at once is the quickest here, for nothing else is installed"
    )


def test_it_is_a_part_like_any() -> None:
    found = Registry.discover().get(Kind.RENDERER, "auto")
    assert found.config().sessions == 8
