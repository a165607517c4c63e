"""Every graph that ships, as the renderer builds it: of the sample avatars and of the kit's tiny ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from visavis.graphs1.compose import spots_of
from visavis.hvia import Hvia, open_hvia
from visavis.hvia.graphs import motion_contract
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt.nodes import declared
from visavis_renderer_tensorrt.scene_graph import scene_graph, window_of

SPEC = find_spec("visavis_store_filesystem")
SAMPLES = sorted(Path(SPEC.origin).parent.glob("avatars/*.hvia")) if SPEC and SPEC.origin else []
ALL_INPUTS = ("expression", "pose", "base_y", "base_uv")


@dataclass(frozen=True)
class Shipped:
    """A graph: of which avatar, which of the two, in which precision. ``raw`` is the ONNX file as it ships."""

    avatar: str
    which: str
    precision: str
    raw: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{self.avatar}-{self.which}-{self.precision}"


def shipped() -> list[Shipped]:
    """All of them."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = tiny_avatar(Path(folder) / "tiny.hvia")
        follows = tiny_avatar(Path(folder) / "tiny-follows.hvia", inputs=ALL_INPUTS)
        found = []
        for path in (*SAMPLES, tiny, follows):
            with open_hvia(path) as avatar:
                found += _graphs(avatar)
    return found


def sources(avatar: Hvia, which: str) -> Iterator[tuple[str, bytes]]:
    """A graph in all the precisions that the avatar brings."""
    said = getattr(avatar.manifest, which)
    variants: Mapping[str, str] = getattr(said, "variants", None) or {}
    for precision, member in {"fp32": said.graph, **variants}.items():
        yield precision, avatar.read(member)


def _graphs(avatar: Hvia) -> Iterator[Shipped]:
    manifest = avatar.manifest
    for precision, data in sources(avatar, "motion"):
        yield Shipped(avatar.id, "motion", precision, data, declared(data, motion_contract(manifest)[1]))
    window = window_of(spots_of(avatar.placement(manifest.idle.id)), manifest.video.width, manifest.video.height)
    region = (manifest.face.width, manifest.face.height)
    for precision, data in sources(avatar, "face"):
        yield Shipped(avatar.id, "face", precision, data, scene_graph(data, window, region))
