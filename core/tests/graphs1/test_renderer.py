"""What a renderer promises: one set of weights, cheap sessions, and pictures that follow the sound."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from graphs1_reference import HOP, IDLE, Reference, ReferenceRenderer, load, loud
from visavis.errors import AvatarError, AvatarInvalid, RendererError
from visavis.graphs1 import Graphs1Avatar, Graphs1Renderer, Graphs1Session
from visavis.graphs1.scene import hardly_differ
from visavis.graphs1.weights import Weights
from visavis.hvia import ARKIT_52, open_hvia, write_hvia
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.media import VideoFormat, VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.testing.tiny import tiny_avatar

JAW = ARKIT_52.index("jawOpen")
LIDS = [ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def renderer(cache: Path) -> ReferenceRenderer:
    return ReferenceRenderer(cache=cache)


@pytest.fixture
def avatar(renderer: ReferenceRenderer, path: Path) -> Iterator[Graphs1Avatar]:
    loaded = load(renderer, path)
    yield loaded
    loaded.close()


QUIET = np.zeros(HOP, np.float32)


def step(renderer: Graphs1Renderer, session: Graphs1Session, given: RenderInput) -> VideoFrame:
    (frame,) = renderer.step([session], [given])
    assert frame is not None
    return frame


def jaws(renderer: Graphs1Renderer, session: Graphs1Session, inputs: list[RenderInput]) -> list[float]:
    """How far the jaw was open on each picture; priming gives none."""
    found = []
    for given in inputs:
        (frame,) = renderer.step([session], [given])
        assert (frame is not None) == given.draw
        if given.draw:
            found.append(float(session.last_expression[JAW]))
    return found


def test_the_format(avatar: Graphs1Avatar) -> None:
    assert avatar.format.video == VideoFormat(128, 128, Fraction(10))
    assert (avatar.format.sample_rate, avatar.format.hop, avatar.format.look_ahead) == (16_000, HOP, 1)


def test_the_picture_belongs_to_the_sound_one_step_before(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    sounds = [QUIET, QUIET, QUIET, loud(), QUIET, QUIET, QUIET]
    opened = jaws(renderer, avatar.open(), [RenderInput(pcm) for pcm in sounds])
    assert int(np.argmax(opened)) == 3 + 1


def test_priming_shifts_nothing_but_the_wait(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    """Primed by the look-ahead, the first picture of speech belongs to its first sound."""
    sounds = [loud(), QUIET, QUIET, QUIET]
    primed = [RenderInput(sounds[0], draw=False), *map(RenderInput, sounds[1:])]
    session = avatar.open()
    jaws(renderer, session, [IDLE] * 3)
    at = session.base_frame
    opened = jaws(renderer, session, primed)
    assert int(np.argmax(opened)) == 0
    assert session.base_frame == at + 3  # no time passed for the body while it was primed


def test_idle_comes_smoothly_to_rest_and_does_not_listen(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    motion, _ = renderer.made
    session = avatar.open()
    opened = jaws(renderer, session, [RenderInput(loud(0.3, seed)) for seed in range(4)])
    heard = len(motion.rows)
    closing = jaws(renderer, session, [IDLE] * 4)
    assert len(motion.rows) == heard
    assert opened[-1] > closing[0] > 0
    assert closing[2:] == [0, 0]


def pictures(renderer: ReferenceRenderer, session: RenderSession, inputs: list[RenderInput]) -> list[VideoFrame]:
    return [frame for given in inputs if (frame := renderer.step([session], [given])[0]) is not None]


def test_at_rest_a_picture_stands_for_two_where_nothing_moved(
    renderer: ReferenceRenderer, avatar: Graphs1Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weights, "still", lambda self, at: True)
    session = avatar.open()
    shown = pictures(renderer, session, [IDLE] * 12)
    assert session.base_frame == 12 % len(session.weights.spots)  # time passes all the same
    again = [a is b for a, b in pairwise(shown)]
    assert again.count(True) >= 4
    assert (True, True) not in set(pairwise(again))  # never three
    spoken = pictures(renderer, session, [RenderInput(loud(0.3, seed)) for seed in range(6)])
    assert len({id(frame) for frame in spoken}) == 6


def test_at_rest_what_moved_is_drawn(
    renderer: ReferenceRenderer, avatar: Graphs1Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weights, "still", lambda self, at: False)
    shown = pictures(renderer, avatar.open(), [IDLE] * 12)
    assert not any(a is b for a, b in pairwise(shown))


def test_what_hardly_differs() -> None:
    frame = np.random.default_rng(3).integers(40, 200, (64, 64), dtype=np.uint8)
    other = frame.copy()
    other[20:30, 20:30] ^= 64
    luma = np.stack([frame, frame, other])
    still, moved = (SimpleNamespace(affine=np.array([[1, 0, x], [0, 1, 4.0]])) for x in (4.0, 4.5))
    nothing: list[Any] = [still, still, still]
    assert hardly_differ(luma, nothing, 1, (32, 32))
    assert not hardly_differ(luma, nothing, 2, (32, 32))
    swayed: list[Any] = [still, moved, moved]
    assert not hardly_differ(luma, swayed, 1, (32, 32))


def test_what_was_said_long_ago_does_not_matter(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    spoken, fresh = avatar.open(), avatar.open()
    jaws(renderer, spoken, [RenderInput(loud())] * 3 + [IDLE] * 21)
    assert spoken.state.any()
    jaws(renderer, fresh, [IDLE] * 24)
    again = [RenderInput(loud(0.1, seed)) for seed in range(3)]
    assert jaws(renderer, spoken, again) == jaws(renderer, fresh, again)


def test_reset_forgets_the_sound_keeps_the_pose_and_blends(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    session = avatar.open()
    before = jaws(renderer, session, [RenderInput(loud())] * 4)
    at = session.base_frame
    session.reset()
    session.reset()
    assert not session.state.any()
    assert session.base_frame == at
    after = jaws(renderer, session, [IDLE] * 7)
    assert np.abs(np.diff([before[-1], *after])).max() < 0.35 * before[-1]
    assert (np.diff(after) <= 0).all()
    assert after[4:] == [0, 0, 0]


def test_a_rewind_takes_up_what_was_shown_last(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    ahead, shown = avatar.open(), avatar.open()
    said = [RenderInput(loud(0.1 + 0.05 * n, n)) for n in range(7)]
    jaws(renderer, ahead, said)
    jaws(renderer, shown, said[:4])
    ahead.rewind(3)
    assert ahead.base_frame == shown.base_frame
    for session in (ahead, shown):
        session.reset()
    after = jaws(renderer, ahead, [IDLE] * 7)
    assert after == jaws(renderer, shown, [IDLE] * 7)
    assert after[0] > 0
    ahead.rewind(10_000)  # more than there were: to the beginning of what is remembered
    assert ahead.base_frame == 0


def test_new_speech_right_after_a_reset_is_reached(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    interrupted, fresh = avatar.open(), avatar.open()
    jaws(renderer, interrupted, [RenderInput(loud(0.5))] * 4)
    interrupted.reset()
    new = [RenderInput(loud(0.1, seed)) for seed in range(8)]
    opened, expected = jaws(renderer, interrupted, new), jaws(renderer, fresh, new)
    assert opened[0] > expected[0]
    assert opened[5:] == expected[5:]


def test_a_reset_at_rest_does_not_blunt_what_comes_next(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    reset, fresh = avatar.open(), avatar.open()
    reset.reset()
    new = [RenderInput(loud(0.1, seed)) for seed in range(4)]
    assert jaws(renderer, reset, new) == jaws(renderer, fresh, new)


def test_equal_seeds_and_sound_give_equal_bits(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    inputs = [IDLE, RenderInput(loud(), draw=False), *[RenderInput(loud(0.2, n)) for n in range(25)], IDLE, IDLE]

    def film(seed: int) -> list[bytes]:
        session = avatar.open(seed=seed)
        frames = [renderer.step([session], [given])[0] for given in inputs]
        return [frame.data.tobytes() for frame in frames if frame is not None]

    assert film(1) == film(1)
    assert film(1) != film(2)


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_a_batch_draws_what_its_sessions_draw_alone(cache: Path, tmp_path: Path, inputs: tuple[str, ...]) -> None:
    renderer = ReferenceRenderer(cache=cache)
    avatar = load(renderer, tiny_avatar(tmp_path, inputs=inputs))
    plans = [
        [RenderInput(loud(0.2, n)) for n in range(12)],
        [IDLE] * 12,
        [IDLE] * 3 + [RenderInput(loud(), draw=False)] + [RenderInput(loud(0.4, n)) for n in range(5)] + [IDLE] * 3,
    ]
    together = [avatar.open(seed=n) for n in range(3)]
    alone = [avatar.open(seed=n) for n in range(3)]
    for given in zip(*plans, strict=True):
        for session, one, frame in zip(alone, given, renderer.step(together, given), strict=True):
            (expected,) = renderer.step([session], [one])
            assert (frame is None) == (expected is None)
            if frame is not None and expected is not None:
                assert np.abs(frame.data.astype(int) - expected.data).max() <= 1
    assert max(renderer.made[0].rows) == 2
    assert max(renderer.made[1].rows) == 3


def test_frames_belong_to_whoever_got_them(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    session = avatar.open()
    frame = step(renderer, session, IDLE)
    assert frame.data.shape == (192, 128)
    assert frame.data.dtype == np.uint8
    assert frame.data.flags.owndata
    before = frame.data.copy()
    frame.data[:] = 0
    jaws(renderer, session, [IDLE] * 19)
    assert (step(renderer, session, IDLE).data[:20] == before[:20]).all()  # one loop of the clip later


def test_an_unchanged_face_is_not_drawn_again(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    _, face = renderer.made
    session = avatar.open()
    drawn = len(face.rows)
    jaws(renderer, session, [IDLE] * 100)
    assert len(face.rows) - drawn < 50


def test_a_face_that_follows_its_base_is_drawn_each_time(cache: Path, tmp_path: Path) -> None:
    renderer = ReferenceRenderer(cache=cache)
    avatar = load(renderer, tiny_avatar(tmp_path, inputs=("expression", "base_y")))
    _, face = renderer.made
    drawn = len(face.rows)
    jaws(renderer, avatar.open(), [IDLE] * 10)
    assert len(face.rows) - drawn == 10


def test_weights_are_in_memory_once(renderer: ReferenceRenderer, path: Path) -> None:
    first, second = load(renderer, path), load(renderer, path)
    assert len(renderer.made) == 2
    assert first.batch_key == second.batch_key
    sessions = [first.open(), second.open()]
    assert None not in renderer.step(sessions, [IDLE, IDLE])
    first.close()
    first.close()
    sessions[1].close()
    sessions[1].close()
    second.close()
    assert not any(graph.closed for graph in renderer.made)
    step(renderer, sessions[0], IDLE)
    sessions[0].close()
    assert all(graph.closed for graph in renderer.made)
    load(renderer, path).close()
    assert len(renderer.made) == 4


def test_many_threads_load_it_once(renderer: ReferenceRenderer, path: Path) -> None:
    loaded: list[Graphs1Avatar] = []
    threads = [threading.Thread(target=lambda: loaded.append(load(renderer, path))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 6
    assert len(renderer.made) == 2
    for avatar in loaded:
        avatar.close()
    assert all(graph.closed for graph in renderer.made)


def test_given_coefficients_are_drawn_as_they_are(avatar: Graphs1Avatar) -> None:
    session = avatar.open()
    wide = np.zeros(52, np.float32)
    wide[JAW] = 0.8
    plain = [session.draw_expression(wide) for _ in range(30)]
    assert (session.last_expression == wide).all()
    assert not any((frame.data == other.data).all() for frame, other in pairwise(plain))
    lids = []
    for _ in range(60):
        session.draw_expression(wide, behaviours=True)
        lids.append(session.last_expression[LIDS].max())
        assert session.last_expression[JAW] == np.float32(0.8)
    assert max(lids) > 0.9
    for wrong in (np.zeros(51), np.full(52, np.nan)):
        with pytest.raises(ValueError, match="52 numbers"):
            session.draw_expression(wrong)


def test_it_says_how_long_each_stage_took(cache: Path, path: Path) -> None:
    metrics = MemoryMetrics()
    renderer = ReferenceRenderer(cache=cache, metrics=metrics)
    session = load(renderer, path).open()
    metrics.observed.clear()
    step(renderer, session, RenderInput(loud()))
    assert sorted(dict(labels)["stage"] for _, labels in metrics.observed) == ["compose", "face", "motion"]
    assert metrics.mean("visavis_render_seconds") > 0


def test_misuse_is_refused(renderer: ReferenceRenderer, avatar: Graphs1Avatar, tmp_path: Path) -> None:
    session = avatar.open()
    other = load(renderer, tiny_avatar(tmp_path, seed=5))
    assert other.batch_key != avatar.batch_key  # another seed is another motion graph
    assert renderer.step([], []) == []
    for sessions, said in (
        ([session, session], "once"),
        ([session, other.open()], "batch key"),
        ([avatar.open() for _ in range(17)], "at most 16"),
    ):
        with pytest.raises(ValueError, match=said):
            renderer.step(sessions, [IDLE] * len(sessions))
    for pcm in (np.zeros(HOP - 1, np.float32), np.zeros(HOP), np.zeros((HOP, 1), np.float32)):
        with pytest.raises(ValueError, match="sound must be float32"):
            renderer.step([session], [RenderInput(pcm)])
    session.close()
    with pytest.raises(RendererError, match="closed"):
        renderer.step([session], [IDLE])
    avatar.close()
    with pytest.raises(RendererError, match="closed"):
        avatar.open()


def test_an_engine_that_fails_is_named(renderer: ReferenceRenderer, avatar: Graphs1Avatar) -> None:
    motion, face = renderer.made
    session = avatar.open()
    face.fault = MemoryError("no more memory")
    with pytest.raises(RendererError, match=r"tiny\.hvia: its face graph failed: no more memory"):
        step(renderer, session, IDLE)
    face.fault = None
    face.out = {"y": np.zeros((1, 1, 64, 64), np.float32)}
    with pytest.raises(RendererError, match=r"float32 \[1, 1, 64, 64\] for 'y', not uint8"):
        step(renderer, avatar.open(), IDLE)
    face.out = {}
    motion.out = {"expression": np.full((1, 1, 52), np.nan, np.float32)}
    with pytest.raises(RendererError, match="not a number"):
        step(renderer, session, RenderInput(loud()))


def test_an_avatar_that_cannot_be_loaded_leaves_nothing(cache: Path, path: Path) -> None:
    class Refusing(ReferenceRenderer):
        def make_executor(self, model: bytes, *, name: str) -> Reference:
            if name.endswith("face"):
                raise RuntimeError("no such\ndevice")
            return super().make_executor(model, name=name)

    renderer = Refusing(cache=cache)
    for _ in range(2):
        with pytest.raises(RendererError, match=r"tiny\.hvia: the engine refuses its face graph: no such device"):
            load(renderer, path)
    assert len(renderer.made) == 2
    assert all(graph.closed for graph in renderer.made)


def rewritten(path: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """The avatar file with its manifest and members changed."""
    with open_hvia(path) as whole:
        members = {member.path: whole.read(member.path) for member in whole.manifest.members}
        fields = whole.manifest.model_dump(mode="json", exclude={"members"}, exclude_none=True)
    change(fields, members)
    return write_hvia(target, fields, dict(members))


def test_a_clip_that_is_not_what_the_manifest_says(cache: Path, path: Path, tmp_path: Path) -> None:
    def cut(fields: dict[str, Any], members: dict[str, bytes]) -> None:
        members["clips/idle.mp4"] = members["clips/idle.mp4"][:1000]

    renderer = ReferenceRenderer(cache=cache)
    with pytest.raises(AvatarInvalid, match=r"bad\.hvia: 'clips/idle\.mp4': the clip"):
        load(renderer, rewritten(path, tmp_path / "bad.hvia", cut))
    assert all(graph.closed for graph in renderer.made)


def test_a_matte_becomes_the_frames_alpha(cache: Path, path: Path, tmp_path: Path) -> None:
    def add(fields: dict[str, Any], members: dict[str, bytes]) -> None:
        fields["clips"][0]["matte"] = "clips/matte.mp4"
        members["clips/matte.mp4"] = members["clips/idle.mp4"]

    renderer = ReferenceRenderer(cache=cache)
    session = load(renderer, rewritten(path, tmp_path / "matte.hvia", add)).open()
    frame = step(renderer, session, IDLE)
    assert frame.alpha is not None
    assert frame.alpha.shape == (128, 128)
    expected = (frame.data[:20].astype(int) - 16) * 255 // 219  # above the face it is the clip's own luma
    assert np.abs(frame.alpha[:20] - expected.clip(0, 255)).max() <= 1


def test_graphs_may_lie_in_a_pack(cache: Path, path: Path, tmp_path: Path) -> None:
    def refer(fields: dict[str, Any], members: dict[str, bytes]) -> None:
        graph = members.pop("graphs/motion.onnx")
        digest = hashlib.sha256(graph).hexdigest()
        fields["motion"]["graph"] = {"sha256": digest}
        (tmp_path / f"{digest}.onnx").write_bytes(graph)

    lean = rewritten(path, tmp_path / "lean.hvia", refer)
    renderer = ReferenceRenderer(cache=cache, packs=[tmp_path])
    assert max(jaws(renderer, load(renderer, lean).open(), [RenderInput(loud())] * 3)) > 0.2
    with pytest.raises(AvatarError, match="model pack"):
        load(ReferenceRenderer(cache=cache), lean)
