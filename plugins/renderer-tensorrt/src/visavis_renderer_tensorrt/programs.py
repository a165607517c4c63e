"""The ONNX files that engines are built of: an avatar's graphs, as far as TensorRT has to have them otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from visavis.graphs1.compose import Spot, spots_of
from visavis.hvia import Hvia, Manifest, Precision
from visavis.hvia.graphs import GraphOffer, load_graphs, motion_contract

from visavis_renderer_tensorrt.nodes import declared
from visavis_renderer_tensorrt.scene_graph import Window, scene_graph, window_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ToBuild:
    """A file to build an engine of, and what people call it."""

    name: str
    precision: Precision
    graph: bytes


def preferred(offer: GraphOffer, wanted: Precision) -> Precision:
    """The precision that is executed: the wanted one where the avatar brings it, else fp32, which is told."""
    if wanted in offer.precisions:
        return wanted
    log.warning("%s has no %s graph in %s: fp32 is executed", offer.name, offer.which, wanted)
    return "fp32"


def to_build(avatar: Hvia, wanted: Precision, packs: Sequence[Path] = ()) -> Iterator[ToBuild]:
    """Everything that the renderer builds for an avatar. Raises AvatarInvalid, RendererError."""
    graphs = load_graphs(avatar, packs=packs, choose=lambda offer: preferred(offer, wanted))
    manifest = avatar.manifest
    yield ToBuild(f"{avatar.id}/motion", graphs.motion.precision, motion_program(manifest, graphs.motion.data))
    spots = spots_of(avatar.placement(manifest.idle.id))
    _, picture = picture_program(manifest, spots, graphs.face.data)
    yield ToBuild(f"{avatar.id}/face", graphs.face.precision, picture)


def motion_program(manifest: Manifest, motion: bytes) -> bytes:
    """The motion graph with its outputs declared."""
    return declared(motion, motion_contract(manifest)[1])


def picture_program(manifest: Manifest, spots: Sequence[Spot], face: bytes) -> tuple[Window, bytes]:
    """The window that may change, and the face graph continued to its pixels."""
    window = window_of(spots, manifest.video.width, manifest.video.height)
    return window, scene_graph(face, window, (manifest.face.width, manifest.face.height))
