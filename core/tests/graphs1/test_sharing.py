"""Graphs that several avatars hold: in memory once, and one call for all of them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from graphs1_reference import IDLE, ReferenceRenderer, load, loud
from visavis.errors import RendererError
from visavis.graphs1 import Graphs1Avatar
from visavis.graphs1.sharing import Sharing
from visavis.hvia import Precision
from visavis.hvia.graphs import GraphOffer
from visavis.interfaces.renderer import RenderInput
from visavis.testing.tiny import tiny_avatar

RED, GREEN, BLUE = (220, 90, 80), (90, 200, 90), (80, 90, 220)


@pytest.fixture
def renderer(tmp_path: Path) -> ReferenceRenderer:
    return ReferenceRenderer(cache=tmp_path / "cache")


def coloured(renderer: ReferenceRenderer, folder: Path, colour: tuple[int, int, int], seed: int = 0) -> Graphs1Avatar:
    name = "-".join(map(str, (*colour, seed)))
    return load(renderer, tiny_avatar(folder / f"{name}.hvia", colour=colour, seed=seed))


def plan(seed: int, steps: int = 6) -> list[RenderInput]:
    return [RenderInput(loud(0.3, seed * 100 + at), draw=at > 0) for at in range(steps)]


def test_a_graph_that_two_avatars_hold_is_in_memory_once(renderer: ReferenceRenderer, tmp_path: Path) -> None:
    red, green = coloured(renderer, tmp_path, RED), coloured(renderer, tmp_path, GREEN)
    motion, red_face, green_face = renderer.made
    assert [graph.name.rsplit("/")[-1] for graph in renderer.made] == ["motion", "face", "face"]
    assert red.weights.motion is green.weights.motion
    assert red.weights.face is not green.weights.face
    red.close()
    assert (motion.closed, red_face.closed, green_face.closed) == (False, True, False)
    green.close()
    assert all(graph.closed for graph in renderer.made)


def test_avatars_of_one_motion_graph_move_in_one_call(renderer: ReferenceRenderer, tmp_path: Path) -> None:
    """Three colours, two sessions of one of them: one call for the motion of all, one for each colour's faces."""
    avatars = [coloured(renderer, tmp_path, colour) for colour in (RED, GREEN, BLUE)]
    assert len({avatar.batch_key for avatar in avatars}) == 1
    motion, *faces = renderer.made
    sessions = [avatar.open(seed=n) for n, avatar in enumerate([*avatars, avatars[0]])]
    for graph in renderer.made:
        graph.rows.clear()
    for given in zip(*(plan(n) for n in range(4)), strict=True):
        renderer.step(sessions, given)
    assert motion.rows == [4] * 6
    assert [face.rows for face in faces] == [[2] * 5, [1] * 5, [1] * 5]


def test_a_mixed_step_draws_what_each_draws_alone(renderer: ReferenceRenderer, tmp_path: Path) -> None:
    avatars = [coloured(renderer, tmp_path, colour) for colour in (RED, GREEN, BLUE)]
    together = [avatar.open(seed=n) for n, avatar in enumerate(avatars)]
    mixed = [renderer.step(together, given) for given in zip(*(plan(n) for n in range(3)), strict=True)]
    for row, avatar in enumerate(avatars):
        alone = avatar.open(seed=row)
        for step, given in zip(mixed, plan(row), strict=True):
            (want,), have = renderer.step([alone], [given]), step[row]
            assert (want is None) == (have is None)
            if want is not None and have is not None:
                assert np.abs(want.data.astype(int) - have.data).max() <= 1


def test_avatars_of_different_motion_graphs_do_not_mix(renderer: ReferenceRenderer, tmp_path: Path) -> None:
    one, other = coloured(renderer, tmp_path, RED), coloured(renderer, tmp_path, RED, seed=1)
    assert one.batch_key != other.batch_key
    with pytest.raises(ValueError, match="batch key"):
        renderer.step([one.open(), other.open()], [IDLE, IDLE])


def test_a_failure_names_whom_it_concerns(renderer: ReferenceRenderer, tmp_path: Path) -> None:
    avatars = [coloured(renderer, tmp_path, colour) for colour in (RED, GREEN)]
    renderer.made[0].fault = MemoryError("no more memory")
    sessions = [avatar.open() for avatar in avatars]
    said = r"220-90-80-0\.hvia, 90-200-90-0\.hvia: its motion graph failed: no more memory"
    with pytest.raises(RendererError, match=said):
        renderer.step(sessions, [RenderInput(loud())] * 2)


def test_a_renderer_names_its_precision(tmp_path: Path) -> None:
    class Preferring(ReferenceRenderer):
        def prefer(self, offer: GraphOffer) -> Precision:
            return "fp16" if "fp16" in offer.precisions else "fp32"

    renderer = Preferring(cache=tmp_path / "cache")
    both = load(renderer, tiny_avatar(tmp_path / "both.hvia", variants=("fp16", "int8")))
    plain = load(renderer, tiny_avatar(tmp_path / "plain.hvia"))
    assert len(renderer.made) == 4  # the same graph in another precision is another graph
    assert both.weights.precisions == ("fp16", "fp16")
    assert plain.weights.precisions == ("fp32", "fp32")
    assert both.batch_key != plain.batch_key
    films = []
    for avatar in (both, plain):
        session = avatar.open(seed=1)
        films.append([renderer.step([session], [given])[0] for given in plan(0)[1:]])
    for one, other in zip(*films, strict=True):
        assert one is not None
        assert other is not None
        assert np.abs(one.data.astype(int) - other.data).mean() < 2


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_last_share_closes_the_thing() -> None:
    sharing: Sharing[Thing] = Sharing()
    first, second = sharing.take("a", Thing), sharing.take("a", Thing)
    third = second.again()
    assert first.thing is second.thing is third.thing
    assert sharing.take("b", Thing).thing is not first.thing
    for share in (first, first, second, second):
        share.close()
    assert first.thing.closed == 0
    third.close()
    assert first.thing.closed == 1
    with pytest.raises(RuntimeError, match="given back"):
        third.again()
    assert sharing.take("a", Thing).thing is not first.thing


def test_what_cannot_be_made_is_tried_again() -> None:
    sharing: Sharing[Thing] = Sharing()

    def fails() -> Thing:
        raise ValueError("not today")

    for _ in range(2):
        with pytest.raises(ValueError, match="not today"):
            sharing.take("a", fails)
    assert sharing.take("a", Thing).thing.closed == 0


def test_many_threads_make_a_thing_once() -> None:
    sharing: Sharing[Thing] = Sharing()
    made: list[Thing] = []
    start = threading.Barrier(8)

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    def use() -> None:
        start.wait()
        for _ in range(200):
            sharing.take("a", make).close()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(thing.closed == 1 for thing in made)
