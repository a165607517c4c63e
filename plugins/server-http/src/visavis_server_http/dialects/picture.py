"""One picture of an avatar as a JPEG: its preview, or else the first frame of its idle clip."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from visavis.errors import MediaError

if TYPE_CHECKING:
    from visavis.hvia import Hvia

_JPEG = b"\xff\xd8\xff"


def jpeg_of(avatar: Hvia) -> bytes:
    """A JPEG of the avatar at rest. Blocking, tens of milliseconds.

    Raises MediaError if it has no preview in JPEG and PyAV, which draws one from its clip, is not installed or fails.
    """
    preview = avatar.manifest.preview
    if preview is not None and (picture := avatar.read(preview)).startswith(_JPEG):
        return picture
    clip = next((one for one in avatar.manifest.clips if one.kind == "idle"), None)
    if clip is None:
        raise MediaError(f"{avatar.id} has neither a preview nor an idle clip")
    return _first_frame(avatar.read(clip.video), avatar.id)


def _first_frame(video: bytes, name: str) -> bytes:
    try:
        import av
    except ImportError as error:
        raise MediaError(
            f"{name} has no preview, and its clip cannot be decoded here: {error}", hint="pip install 'visavis[graphs]'"
        ) from error
    try:
        with av.open(io.BytesIO(video), "r") as container:
            frame = next(container.decode(video=0)).reformat(format="yuvj420p")
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    except (av.FFmpegError, StopIteration, OSError) as error:
        raise MediaError(f"the idle clip of {name} cannot be decoded: {error}") from error
