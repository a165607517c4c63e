"""Base clips, decoded once a machine into files that every process maps into its memory.

Twelve seconds of 512x512 are 118 MB as I420: mapped read-only they cost no private memory, however many sessions
and processes show them.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from visavis.errors import MediaError, RendererError
from visavis.graphs1.caching import cache_folder, replaced, sweep

log = logging.getLogger(__name__)

Plane = NDArray[np.uint8]

LAYOUT: Final = 1
"""Raised whenever the decoder or the layout of the file changes: old files are then not used."""
HEADER: Final = 4096
_SAMPLE: Final = 4096


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A clip's video: how to read its bytes, their SHA-256, its size in pixels and frames.

    ``kind`` "i420" gives frames ``[height * 3 / 2, width]``, "matte" the luma stretched to 0..255 ``[height, width]``.
    """

    data: Callable[[], bytes]
    sha256: str
    width: int
    height: int
    frames: int
    kind: Literal["i420", "matte"] = "i420"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.frames, self.height * 3 // 2 if self.kind == "i420" else self.height, self.width


def open_clip(source: ClipSource, folder: Path | None = None) -> Plane:
    """The clip's frames, uint8 ``[frames, rows, width]``, mapped read-only; decoded first if nobody has yet.

    Raises MediaError if the video is not what it should be, RendererError if there is no room for it.
    """
    try:
        where = (folder or cache_folder()) / "clips"
    except RuntimeError as error:  # a user without a home, as in some containers
        log.warning("there is no folder for decoded clips (%s): decoding into a temporary file", error)
        return _temporary(source)
    path = where / f"{source.sha256}-{source.kind}-{LAYOUT}.frames"
    if (frames := _existing(path, source)) is not None:
        return frames
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(where, ".frames")
        return _kept(path, source)
    except OSError as error:
        log.warning("the clip cache %s cannot be written (%s): decoding into a temporary file", where, error.strerror)
    return _temporary(source)


def _existing(path: Path, source: ClipSource) -> Plane | None:
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
            frames = _mapped(file, source)
        whole = header == _header(source, _checksum(frames))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("the decoded clip %s is damaged (%s): decoding it anew", path, error)
        return None
    if not whole:
        log.warning("the decoded clip %s is damaged (its header does not fit): decoding it anew", path)
        return None
    try:
        os.utime(path)
    except OSError as error:
        # It can still be read; it merely looks unused to the next sweep.
        log.debug("%s: %s", path, error)
    return frames


def _mapped(file: IO[bytes], source: ClipSource) -> Plane:
    count = source.shape[0] * source.shape[1] * source.shape[2]
    if (size := os.fstat(file.fileno()).st_size) != HEADER + count:
        raise ValueError(f"{size} bytes instead of {HEADER + count}")
    mapped = np.memmap(file, np.uint8, "r", offset=HEADER, shape=source.shape)
    # A plain view: slices of a memmap are slow to make.
    return mapped.view(np.ndarray)


def _header(source: ClipSource, checksum: int) -> bytes:
    """What a whole file begins with."""
    said = {
        "visavis": "decoded clip",
        "layout": LAYOUT,
        "sha256": source.sha256,
        "shape": list(source.shape),
        "sample": checksum,
    }
    return json.dumps(said).encode().ljust(HEADER, b"\n")


def _checksum(frames: Iterable[Plane]) -> int:
    """A CRC over one page of every frame, each from a further place: cheap, and sees lost blocks of a file."""
    crc = 0
    for index, frame in enumerate(frames):
        flat = frame.reshape(-1)
        start = (index * 7 % max(flat.size // _SAMPLE, 1)) * _SAMPLE
        crc = zlib.crc32(flat[start : start + _SAMPLE].data, crc)
    return crc


def _kept(path: Path, source: ClipSource) -> Plane:
    """Decode into the cache. Several processes may do so at once; each replaces the file as a whole."""
    with replaced(path) as file:
        _fill(file, source)
    if (frames := _existing(path, source)) is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return frames


def _temporary(source: ClipSource) -> Plane:
    try:
        with tempfile.TemporaryFile(prefix="visavis-clip-") as file:
            _fill(file, source)
            return _mapped(file, source)
    except OSError as error:
        size = source.shape[0] * source.shape[1] * source.shape[2] / 1e6
        raise RendererError(
            f"there is no room to decode a base clip ({size:.0f} MB): {error.strerror}",
            hint="free some space, or set VISAVIS_CACHE_DIR to a folder that has it",
        ) from error


def _fill(file: IO[bytes], source: ClipSource) -> None:
    """Write the frames, and what says that they are whole."""
    file.write(bytes(HEADER))

    def written() -> Iterator[Plane]:
        for frame in _decoded(source):
            file.write(frame.data)
            yield frame

    checksum = _checksum(written())
    file.seek(0)
    file.write(_header(source, checksum))
    file.flush()


def _decoded(source: ClipSource) -> Iterator[Plane]:
    """The video's frames, contiguous. Raises MediaError if they are not those that were promised."""
    count = 0
    try:
        with av.open(io.BytesIO(source.data()), "r", format="mov") as container:
            for frame in _pictures(container):
                if (frame.width, frame.height) != (source.width, source.height):
                    raise MediaError(
                        f"the clip's picture {count} is {frame.width}x{frame.height}, "
                        f"not {source.width}x{source.height}"
                    )
                count += 1
                if count > source.frames:
                    break
                yield _planes(frame, source)
    except av.error.FFmpegError as error:
        raise MediaError(f"the clip's video cannot be decoded: {error.strerror or error}") from error
    if count != source.frames:
        more = "more than " if count > source.frames else ""
        raise MediaError(f"the clip has {more}{min(count, source.frames)} pictures, not {source.frames}")


def _pictures(container: av.container.InputContainer) -> Iterable[av.VideoFrame]:
    if len(container.streams.video) != 1:
        raise MediaError(f"the clip has {len(container.streams.video)} video streams, not one")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.name != "h264" or context.pix_fmt != "yuv420p":
        raise MediaError(f"the clip is {context.name} {context.pix_fmt}, not H.264 yuv420p")
    pictures: Iterable[av.VideoFrame] = container.decode(stream)
    return pictures


def _planes(frame: av.VideoFrame, source: ClipSource) -> Plane:
    planes: Plane = frame.to_ndarray()
    if source.kind == "i420":
        return np.ascontiguousarray(planes)
    luma = planes[: source.height].astype(np.int32)
    # Limited range: 16 is clear, 235 is opaque.
    return np.clip((luma - 16) * 255 // 219, 0, 255).astype(np.uint8)
