"""The manifest of an avatar file: what ``manifest.json`` may say, as pydantic models.

:func:`parse_manifest` reads untrusted bytes; :func:`manifest_schema` is the JSON Schema that ships as
``manifest.schema.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from visavis.errors import AvatarInvalid
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.profiles import PROFILES
from visavis.hvia.strict_json import parse_json

FORMAT: Final = "hvia/1"
ENGINE: Final = "graphs/1"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"
"""Reserved for a signature of the manifest's bytes; the one member that the manifest does not list."""

PATH_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"
_WINDOWS = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def path_problem(path: str) -> str | None:
    """Why ``path`` cannot be a member's name, or None if it can."""
    if len(path) > 128 or re.fullmatch(PATH_PATTERN[1:-1], path) is None:
        return (
            "a member's name is 1 to 128 of A-Z a-z 0-9 . _ - with / between folders, "
            "and no part of it starts with . or -"
        )
    if any(part.endswith(".") or _WINDOWS.match(part) for part in path.split("/")):
        return "a part of a member's name must not end in . or be a device name of Windows"
    return None


def _member_path(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(problem)
    return path


def _plain_text(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("holds control characters")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text or _CONTROL.search(text):
        raise ValueError("holds line breaks or control characters")
    return text


MemberPath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=128), AfterValidator(_member_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=65_536), AfterValidator(_plain_text)]
EvenSize = Annotated[int, Field(ge=16, le=4096, multiple_of=2)]
Coefficient = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class GraphReference(_Model):
    """A graph that is not in the file: it lies in an installed model pack."""

    sha256: Sha256
    """SHA-256 of the ONNX file, in lower-case hex."""


GraphSource = MemberPath | GraphReference
"""Where a graph lies."""
Precision = Literal["fp32", "fp16", "int8"]
"""What a graph computes in."""


class Variants(_Model):
    """The same graph in other precisions. A reader may execute one of them in the place of ``graph``, or none.

    Inputs and outputs are those of ``graph``: names, types and shapes.
    """

    fp16: GraphSource | None = None
    """Computes in half precision inside."""
    int8: GraphSource | None = None
    """Computes in 8 bit integers inside: QuantizeLinear and DequantizeLinear stand around what is quantised."""


class _Graphed(_Model):
    """What a graph is described by, whichever it is."""

    graph: GraphSource
    """The ONNX file in single precision: a member's path, or a reference to a model pack."""
    variants: Variants = Variants()
    """The same graph in other precisions."""

    @property
    def sources(self) -> dict[Precision, GraphSource]:
        """Every precision that the graph comes in, and where it lies; ``fp32`` first."""
        others: dict[Precision, GraphSource | None] = {"fp16": self.variants.fp16, "int8": self.variants.int8}
        return {"fp32": self.graph, **{name: source for name, source in others.items() if source is not None}}


class Likeness(_Model):
    """Whose face it is, and why it may be shown."""

    of: Line
    """The person shown, or ``nobody`` for an invented face."""
    consent: Text = Field(min_length=1)
    """How that person agreed, or why nobody had to."""


class Video(_Model):
    """The pictures that the avatar makes."""

    width: EvenSize
    """Pixels across."""
    height: EvenSize
    """Pixels down."""
    fps: Annotated[int, Field(ge=1, le=120)]
    """Pictures a second."""


class Motion(_Graphed):
    """The graph that turns sound into expression coefficients."""

    sample_rate: Annotated[int, Field(ge=4_000, le=96_000)]
    """Samples a second of the mono sound it hears."""
    hop: Annotated[int, Field(ge=1, le=96_000)]
    """Samples a call, a multiple of ``frames``."""
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    """Video frames a call (T). ``fps * hop`` equals ``sample_rate * frames``."""
    look_ahead: Annotated[int, Field(ge=0, le=192_000)]
    """Samples by which the coefficients lag behind the sound; a whole number of video frames."""
    state: Annotated[int, Field(ge=1, le=4_194_304)]
    """Numbers of state that a stream keeps between calls (S)."""
    profile: Literal["arkit-52"] | None = None
    """A list of coefficients that tools know; ``coefficients`` then equals it."""
    coefficients: Annotated[tuple[Coefficient, ...], Field(min_length=1, max_length=512)]
    """The names of the expression vector's elements, in order (E of them)."""

    @property
    def look_ahead_frames(self) -> int:
        """``look_ahead`` in video frames."""
        return self.look_ahead * self.frames // self.hop

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(set(self.coefficients)) != len(self.coefficients):
            raise ValueError("coefficients holds a name twice")
        if self.profile is not None and self.coefficients != PROFILES[self.profile]:
            raise ValueError(f"coefficients must be those of the profile {self.profile}, in its order")
        if self.hop % self.frames:
            raise ValueError(f"a hop of {self.hop} samples cannot be shared evenly by {self.frames} video frames")
        if self.look_ahead * self.frames % self.hop:
            raise ValueError(f"look_ahead of {self.look_ahead} samples is not a whole number of video frames")
        return self


FaceInput = Literal["expression", "pose", "base_y", "base_uv"]


class Face(_Graphed):
    """The graph that draws the face region."""

    width: EvenSize
    """Pixels of the region, across."""
    height: EvenSize
    """Pixels of the region, down."""
    inputs: Annotated[tuple[FaceInput, ...], Field(min_length=1, max_length=4)]
    """The inputs that the graph takes; ``expression`` is one of them."""
    alpha: bool
    """Whether the graph puts out ``alpha``; if not, the region is opaque."""
    pose: Literal[3] = 3
    """Numbers of a pose: yaw, pitch and roll in degrees."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError("inputs holds a name twice")
        if "expression" not in self.inputs:
            raise ValueError("inputs must hold expression")
        return self


def source_field(which: str, precision: Precision) -> str:
    """The manifest's field that says where a graph (``motion`` or ``face``) of a precision lies."""
    return f"{which}.graph" if precision == "fp32" else f"{which}.variants.{precision}"


class Clip(_Model):
    """A base clip: the pictures over which the face is laid."""

    id: Identifier
    """Its name in the file."""
    kind: Literal["idle", "gesture"]
    """``idle`` loops for ever; ``gesture`` plays once and returns to idle."""
    video: MemberPath
    """H.264 yuv420p in MP4, without sound, of the size and rate of ``video``."""
    placement: MemberPath
    """JSON: rectangle, affine and pose for every frame."""
    frames: Annotated[int, Field(ge=1, le=LIMITS.clip_frames)]
    """How many frames the clip and its placement have."""
    matte: MemberPath | None = None
    """A second video of the same shape whose luma is the alpha of the whole frame."""


class Member(_Model):
    """One file inside the avatar file."""

    path: MemberPath
    """Its name in the archive."""
    size: Annotated[int, Field(ge=0, le=LIMITS.member)]
    """Bytes, unpacked."""
    sha256: Sha256
    """SHA-256 of the unpacked bytes, in lower-case hex."""


class Manifest(_Model):
    """``manifest.json`` of an avatar file in the format ``hvia/1`` with the engine ``graphs/1``."""

    format: Literal["hvia/1"]
    """The format's name and version."""
    engine: Literal["graphs/1"]
    """How the avatar is drawn; a renderer says which engines it reads."""
    name: Line
    """What people call the avatar."""
    description: Text = ""
    """A sentence or two for a list of avatars."""
    author: Line
    """Who made it."""
    licence: Line
    """Under which terms it may be used: an SPDX expression where there is one."""
    notices: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """Notices that must travel with the file."""
    likeness: Likeness
    """Whose face it is, and why it may be shown."""
    synthetic: bool
    """True if the pictures are made by a machine; viewers should be told."""
    video: Video
    """The pictures that the avatar makes."""
    motion: Motion
    """The graph that turns sound into expression coefficients."""
    face: Face
    """The graph that draws the face region."""
    clips: Annotated[tuple[Clip, ...], Field(min_length=1, max_length=64)]
    """The base clips; at least one is of the kind ``idle``."""
    preview: MemberPath | None = None
    """A still picture of the avatar, JPEG or PNG."""
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=LIMITS.members - 1)]
    """Every member of the archive but ``manifest.json`` and ``manifest.json.sig``."""

    def clip(self, clip_id: str) -> Clip:
        """The clip of that id. Raises KeyError."""
        for clip in self.clips:
            if clip.id == clip_id:
                return clip
        raise KeyError(clip_id)

    @property
    def idle(self) -> Clip:
        """The first idle clip."""
        return next(clip for clip in self.clips if clip.kind == "idle")

    def references(self) -> dict[str, str]:
        """Every member path that a field names, with that field's name."""
        named: dict[str, str] = {}
        for which, part in (("motion", self.motion), ("face", self.face)):
            for precision, source in part.sources.items():
                if isinstance(source, str):
                    named[source_field(which, precision)] = source
        for clip in self.clips:
            named[f"clip {clip.id}: video"] = clip.video
            named[f"clip {clip.id}: placement"] = clip.placement
            if clip.matte is not None:
                named[f"clip {clip.id}: matte"] = clip.matte
        if self.preview is not None:
            named["preview"] = self.preview
        return {path: field for field, path in named.items()}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        video, motion = self.video, self.motion
        if video.fps * motion.hop != motion.sample_rate * motion.frames:
            raise ValueError(
                f"video.fps * motion.hop is {video.fps * motion.hop}, "
                f"but motion.sample_rate * motion.frames is {motion.sample_rate * motion.frames}"
            )
        ids = [clip.id for clip in self.clips]
        if len(set(ids)) != len(ids):
            raise ValueError("two clips have one id")
        if not any(clip.kind == "idle" for clip in self.clips):
            raise ValueError("no clip is of the kind idle")
        frames = sum(clip.frames for clip in self.clips)
        if frames * video.width * video.height * 3 // 2 > LIMITS.decoded:
            raise ValueError(f"the clips' {frames} frames of {video.width}x{video.height} are over 4 GiB decoded")
        paths = [member.path.lower() for member in self.members]
        if len(set(paths)) != len(paths):
            raise ValueError("members lists a path twice (case does not tell paths apart)")
        if MANIFEST in paths or SIGNATURE in paths:
            raise ValueError(f"members must not list {MANIFEST} or {SIGNATURE}")
        listed = {member.path for member in self.members}
        for path, field in self.references().items():
            if path not in listed:
                raise ValueError(f"{field} names {path!r}, which members does not list")
        return self


def parse_manifest(data: bytes, where: str, *, limits: Limits = LIMITS) -> Manifest:
    """Read ``manifest.json``; ``where`` is the file that errors name. Raises AvatarInvalid with one sentence."""
    try:
        said = parse_json(data, max_bytes=limits.manifest, max_depth=limits.json_depth)
    except ValueError as error:
        raise AvatarInvalid(where, f"{MANIFEST}: {error}") from error
    if not isinstance(said, dict):
        raise AvatarInvalid(where, f"{MANIFEST} is not a JSON object")
    _known_format(said, where)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise AvatarInvalid(where, f"{MANIFEST}: {first_problem(error)}") from None


def _known_format(said: Mapping[str, Any], where: str) -> None:
    """Refuse other formats and engines first: their other fields would only confuse the message."""
    named, engine = said.get("format"), said.get("engine")
    if named != FORMAT:
        raise AvatarInvalid(where, f"its format is {_short(named)}, not {FORMAT!r}", hint="a newer visavis may read it")
    if engine != ENGINE:
        raise AvatarInvalid(
            where,
            f"it needs the engine {_short(engine)}; this visavis reads {ENGINE!r}",
            hint="a newer visavis or a plugin may read it",
        )


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def first_problem(error: ValidationError) -> str:
    """The first thing pydantic found, as one sentence: where, what, and how many more."""
    found = error.errors(include_url=False, include_input=False)
    place = ".".join(str(step) for step in found[0]["loc"])
    what = found[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return ascii(f"{place}: {what}{more}" if place else f"{what}{more}")[1:-1]


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of ``manifest.json``."""
    schema = Manifest.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:visavis:hvia:1:manifest",
        **schema,
    }
