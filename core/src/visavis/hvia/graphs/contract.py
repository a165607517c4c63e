"""What the engine ``graphs/1`` wants of an avatar's two graphs, and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visavis.errors import AvatarError
from visavis.hvia.graphs.check import CheckedGraph, check_graph
from visavis.hvia.graphs.tensors import FLOAT, UINT8, Tensor
from visavis.hvia.manifest import GraphReference, Manifest
from visavis.hvia.reader import Hvia


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both graphs of an avatar, checked."""

    motion: CheckedGraph
    face: CheckedGraph


def load_graphs(avatar: Hvia, *, packs: Sequence[Path] = ()) -> Graphs:
    """Both graphs of an avatar, from its file or from ``packs``, once they are found to keep to the contract.

    A pack is a folder that holds graphs as ``<sha256>.onnx``. Raises AvatarInvalid with one sentence, AvatarError if
    a pack is missing.
    """
    return Graphs(motion=load_graph(avatar, "motion", packs=packs), face=load_graph(avatar, "face", packs=packs))


def load_graph(avatar: Hvia, which: str, *, packs: Sequence[Path] = ()) -> CheckedGraph:
    """One graph of an avatar, ``motion`` or ``face``; as :func:`load_graphs`."""
    manifest = avatar.manifest
    if which == "motion":
        source, wanted = manifest.motion.graph, motion_contract(manifest)
    else:
        source, wanted = manifest.face.graph, face_contract(manifest)
    data = _from_packs(avatar, which, source, packs) if isinstance(source, GraphReference) else avatar.read(source)
    try:
        return check_graph(data, *wanted, limits=avatar.limits)
    except ValueError as error:
        raise avatar.fault(f"the {which} graph is refused: {error}") from error


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


def _from_packs(avatar: Hvia, which: str, reference: GraphReference, packs: Sequence[Path]) -> bytes:
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
        f"{avatar.path.name}: its {which} graph {reference.sha256[:12]}... lies in a model pack that is not here "
        f"({where})",
        hint="install the model pack that the avatar's maker names",
    )
