"""What the engine ``graphs/1`` wants of an avatar's two graphs, and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from visavis.errors import AvatarError
from visavis.hvia.graphs.check import CheckedGraph, check_graph
from visavis.hvia.graphs.tensors import FLOAT, UINT8, Tensor
from visavis.hvia.manifest import GraphReference, GraphSource, Manifest, Precision
from visavis.hvia.reader import Hvia

Which = Literal["motion", "face"]
WHICH: Final[tuple[Which, ...]] = ("motion", "face")
"""The two graphs."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both graphs of an avatar, checked."""

    motion: CheckedGraph
    face: CheckedGraph


@dataclass(frozen=True)
class GraphOffer:
    """A graph in all the precisions that an avatar brings: what a renderer chooses from."""

    avatar: Hvia
    which: Which
    packs: Sequence[Path] = ()

    @property
    def name(self) -> str:
        """The avatar's file, for messages."""
        return self.avatar.path.name

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the graph comes in; ``fp32`` is always there, and first."""
        return tuple(graph_sources(self.avatar.manifest, self.which))

    def load(self, precision: Precision) -> CheckedGraph:
        """The graph in that precision, checked; as :func:`load_graph`."""
        return load_graph(self.avatar, self.which, precision, packs=self.packs)


def load_graphs(
    avatar: Hvia, *, packs: Sequence[Path] = (), choose: Callable[[GraphOffer], Precision] | None = None
) -> Graphs:
    """Both graphs of an avatar, from its file or from ``packs``, once they are found to keep to the contract.

    A pack is a folder that holds graphs as ``<sha256>.onnx``. ``choose`` says for each graph in which of the
    precisions that it comes in it is wanted; without it that is ``fp32``. Raises AvatarInvalid with one sentence,
    AvatarError if a pack is missing.
    """
    motion, face = (GraphOffer(avatar, which, packs) for which in WHICH)
    return Graphs(*(offer.load(choose(offer) if choose else "fp32") for offer in (motion, face)))


def load_graph(
    avatar: Hvia, which: Which, precision: Precision = "fp32", *, packs: Sequence[Path] = ()
) -> CheckedGraph:
    """One graph of an avatar in one of the precisions that it comes in; as :func:`load_graphs`.

    Raises ValueError if it does not come in that precision.
    """
    sources = graph_sources(avatar.manifest, which)
    if precision not in sources:
        raise ValueError(f"{avatar.path.name} has no {which} graph in {precision}")
    source = sources[precision]
    wanted = motion_contract(avatar.manifest) if which == "motion" else face_contract(avatar.manifest)
    what = graph_name(which, precision)
    data = _from_packs(avatar, what, source, packs) if isinstance(source, GraphReference) else avatar.read(source)
    try:
        return replace(check_graph(data, *wanted, limits=avatar.limits), precision=precision)
    except ValueError as error:
        raise avatar.fault(f"the {what} is refused: {error}") from error


def graph_sources(manifest: Manifest, which: Which) -> dict[Precision, GraphSource]:
    """The precisions that a graph comes in, and where each lies; ``fp32`` first."""
    return (manifest.motion if which == "motion" else manifest.face).sources


def graph_name(which: Which, precision: Precision) -> str:
    """What messages call a graph."""
    return f"{which} graph" if precision == "fp32" else f"{precision} {which} graph"


def motion_contract(manifest: Manifest) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the motion graph."""
    motion = manifest.motion
    state = (motion.state,)
    return (
        (Tensor("pcm", FLOAT, (motion.hop,)), Tensor("state", FLOAT, state)),
        (
            Tensor("expression", FLOAT, (motion.frames, len(motion.coefficients))),
            Tensor("state_out", FLOAT, state),
        ),
    )


def face_contract(manifest: Manifest) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the face graph."""
    face = manifest.face
    luma, chroma = (1, face.height, face.width), (2, face.height // 2, face.width // 2)
    inputs = (
        Tensor("expression", FLOAT, (len(manifest.motion.coefficients),)),
        Tensor("pose", FLOAT, (face.pose,)),
        Tensor("base_y", UINT8, luma),
        Tensor("base_uv", UINT8, chroma),
    )
    outputs = (Tensor("y", UINT8, luma), Tensor("uv", UINT8, chroma), Tensor("alpha", UINT8, luma))
    taken = tuple(tensor for tensor in inputs if tensor.name in face.inputs)
    return taken, outputs if face.alpha else outputs[:2]


def _from_packs(avatar: Hvia, what: str, reference: GraphReference, packs: Sequence[Path]) -> bytes:
    for pack in packs:
        path = pack / f"{reference.sha256}.onnx"
        if not path.is_file():
            continue
        if path.stat().st_size > avatar.limits.graph:
            raise AvatarError(f"{path} has more than {avatar.limits.graph} bytes")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise AvatarError(f"{path} is damaged: its SHA-256 is not the one in its name")
        return data
    where = ", ".join(str(pack) for pack in packs) or "no pack is installed"
    raise AvatarError(
        f"{avatar.path.name}: its {what} {reference.sha256[:12]}... lies in a model pack that is not here ({where})",
        hint="install the model pack that the avatar's maker names",
    )
