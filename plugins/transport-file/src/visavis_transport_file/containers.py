"""The kinds of file, by their extension, and what goes into each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from visavis.errors import BadInput, ConfigError


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file: FFmpeg's name for it, the codecs it takes, the sound's encoder."""

    format: str
    video: tuple[str, ...]
    encoder: str
    audio: str
    options: dict[str, str] = field(default_factory=dict)
    keeps_samples: bool = False
    """Whether an edit list can count in samples, so that the sound's length is exact."""


_MP4: Final = {
    "movflags": "+faststart"  # the index goes first, so that a browser can begin before it has the whole
}
CONTAINERS: Final[dict[str, Container]] = {
    ".mp4": Container("mp4", ("h264", "hevc", "av1"), "libx264", "aac", _MP4, keeps_samples=True),
    ".mov": Container("mov", ("h264", "hevc"), "libx264", "aac", _MP4, keeps_samples=True),
    ".mkv": Container("matroska", ("h264", "hevc", "av1", "vp8", "vp9"), "libx264", "aac"),
    ".webm": Container("webm", ("vp8", "vp9", "av1"), "libvpx-vp9", "libopus"),
}


def container_of(path: Path) -> Container:
    """The kind of file a path asks for. Raises BadInput that lists the known ones."""
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        what = f"the extension {path.suffix!r} is not known" if path.suffix else "the name has no extension"
        raise BadInput(f"{path}: {what}", hint="use " + ", ".join(sorted(CONTAINERS)))
    return kind


def video_encoder(kind: Container, wanted: str) -> str:
    """The encoder for a kind of file. Raises ConfigError if FFmpeg has none of that name or it does not fit."""
    name = kind.encoder if wanted == "auto" else wanted
    try:
        codec = Codec(name, "w")
    except (UnknownCodecError, av.error.FFmpegError, ValueError):
        raise ConfigError(f"this FFmpeg has no video encoder {name!r}", hint="leave encoder at auto") from None
    if codec.type != "video":
        raise ConfigError(f"{name!r} encodes {codec.type}, not video", hint="leave encoder at auto")
    if codec.canonical_name not in kind.video:
        raise ConfigError(
            f"a {kind.format} file does not take {codec.canonical_name} (encoder {name!r})",
            hint="leave encoder at auto",
        )
    return name


def encoder_options(encoder: str, preset: str, crf: int) -> dict[str, str]:
    """An encoder's own options for a quality and a preset."""
    if encoder == "libx264":
        return {"preset": preset, "crf": str(min(crf, 51))}
    if encoder == "libvpx-vp9":
        return {"deadline": "realtime", "cpu-used": "7", "crf": str(crf), "b": "0"}
    if encoder == "libvpx":
        # VP8 takes the bit rate as a bound that its quality stays under.
        return {"deadline": "realtime", "cpu-used": "5", "crf": str(max(4, crf)), "b": "2000000"}
    return {}
