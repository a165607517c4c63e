"""Where things lie in the 512x512 frame. Plain numbers, so that tools without Blender can read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

FRAME = 512


@dataclass(frozen=True)
class Box:
    """A rectangle of the frame, pixels from the top left; even, so that chroma planes align."""

    x: int
    y: int
    w: int
    h: int

    def as_json(self) -> dict[str, int]:
        """Plain numbers."""
        return asdict(self)


WHOLE = Box(0, 0, FRAME, FRAME)
REGION = Box(128, 124, 256, 256)
"""The canonical region of the face graph: raised brows to the chin of a fully open jaw."""
MOUTH = Box(168, 224, 176, 156)
EYES = Box(152, 128, 208, 104)
