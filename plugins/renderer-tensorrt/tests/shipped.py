"""Every graph that ships, as the renderer builds it: of the sample avatars and of the kit's tiny ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from visavis.graphs1.compose import spots_of
from visavis.hvia import Hvia, Precision, open_hvia
from visavis.hvia.graphs import GraphOffer, Which
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt.programs import motion_program, picture_program

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
        tiny = tiny_avatar(Path(folder) / "tiny.hvia", variants=("fp16", "int8"))
        follows = tiny_avatar(Path(folder) / "tiny-follows.hvia", inputs=ALL_INPUTS)
        found = []
        for path in (*SAMPLES, tiny, follows):
            with open_hvia(path) as avatar:
                found += _graphs(avatar)
    return found


def sources(avatar: Hvia, which: Which) -> Iterator[tuple[Precision, bytes]]:
    """A graph in all the precisions that the avatar brings."""
    offer = GraphOffer(avatar, which)
    for precision in offer.precisions:
        yield precision, offer.load(precision).data


def _graphs(avatar: Hvia) -> Iterator[Shipped]:
    manifest = avatar.manifest
    for precision, data in sources(avatar, "motion"):
        yield Shipped(avatar.id, "motion", precision, data, motion_program(manifest, data))
    spots = spots_of(avatar.placement(manifest.idle.id))
    for precision, data in sources(avatar, "face"):
        yield Shipped(avatar.id, "face", precision, data, picture_program(manifest, spots, data)[1])
