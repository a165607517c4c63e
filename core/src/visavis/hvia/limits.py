"""How large anything in an avatar file may be. A reader refuses what is beyond, before it spends memory or time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KILO: Final = 1024
MEGA: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that :func:`visavis.hvia.open_hvia` keeps; sizes in bytes unless a name says otherwise."""

    file: int = 512 * MEGA
    """The whole file."""
    member: int = 256 * MEGA
    """One member, unpacked."""
    unpacked: int = 1024 * MEGA
    """All members together, unpacked."""
    ratio: int = 200
    """How many times larger a deflated member may be than its packed bytes."""
    members: int = 256
    """Entries of the archive, the manifest included."""
    manifest: int = 256 * KILO
    placement: int = 16 * MEGA
    """The JSON file with a clip's rectangles, affines and poses."""
    signature: int = 4 * KILO
    """The reserved member ``manifest.json.sig``."""
    json_depth: int = 16
    clip_frames: int = 36_000
    """Frames of one clip."""
    decoded: int = 4 * 1024 * MEGA
    """All clips together, decoded to I420."""
    graph: int = 128 * MEGA
    """One ONNX graph."""
    graph_nodes: int = 4096
    graph_fields: int = 200_000
    """Protobuf fields of one graph, so that many tiny ones cannot fill the memory."""
    typed_tensor: int = 1 * MEGA
    """Tensor values of one graph that are not ``raw_data`` (they grow when parsed)."""
    activation: int = 64 * MEGA
    """One intermediate tensor of a graph, for one row of the batch."""
    macs: int = 20_000_000_000
    """Multiply-accumulates of one call of a graph, for one row of the batch."""


LIMITS: Final = Limits()
"""What every reader of visavis uses unless told otherwise."""
