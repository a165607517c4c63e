"""What a manifest may say, and the sentence each mistake gets."""

from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hvia_forge import Parts
from visavis.errors import AvatarInvalid
from visavis.hvia import ARKIT_52, manifest_schema, open_hvia
from visavis.hvia.manifest import parse_manifest, path_problem

MISSING = object()


def change(manifest: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one value set; numbers in ``path`` are list indices."""
    out = copy.deepcopy(manifest)
    at: Any = out
    *steps, last = path.split(".")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    key: Any = int(last) if isinstance(at, list) else last
    if value is MISSING:
        del at[key]
    else:
        at[key] = value
    return out


def refused(manifest: object, *words: str) -> None:
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with pytest.raises(AvatarInvalid) as caught:
        parse_manifest(data, "some.hvia")
    message = str(caught.value)
    assert message.startswith("some.hvia: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_the_schema_that_ships_is_the_models() -> None:
    shipped = resources.files("visavis.hvia").joinpath("manifest.schema.json").read_text("utf-8")
    assert json.loads(shipped) == manifest_schema()
    assert shipped == json.dumps(manifest_schema(), indent=2) + "\n"


def test_every_field_is_described() -> None:
    schema = manifest_schema()
    models = [schema, *schema["$defs"].values()]
    for model in models:
        assert model["additionalProperties"] is False
        for name, field in model["properties"].items():
            # A bare reference has its model's own words.
            assert field.get("description") or "$ref" in field, f"{model.get('title')}.{name}"
        assert model["description"]


def test_the_profile_is_apples() -> None:
    assert len(set(ARKIT_52)) == 52
    assert ARKIT_52[0] == "eyeBlinkLeft"
    assert ARKIT_52[17] == "jawOpen"
    assert ARKIT_52[51] == "tongueOut"


def test_tiny_is_read(parts: Parts) -> None:
    manifest = parse_manifest(json.dumps(parts.manifest).encode(), "some.hvia")
    assert manifest.name == "Tiny"
    assert manifest.motion.look_ahead_frames == 1
    assert manifest.idle.frames == manifest.clip("idle").frames == 20
    with pytest.raises(KeyError):
        manifest.clip("wave")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", "hvia/2", "its format is 'hvia/2', not 'hvia/1'"),
        ("format", MISSING, "its format is None"),
        ("format", "x" * 500, "..."),
        ("engine", "latents/3", "needs the engine 'latents/3'; this visavis reads 'graphs/1'"),
        ("name", "", "name"),
        ("name", "two\nlines", "line breaks"),
        ("name", "\x1b[31mred", "control characters"),
        ("author", "\u202egnp.exe", "control characters"),
        ("description", "bell\x07", "control characters"),
        ("description", 3, "description"),
        ("licence", MISSING, "licence"),
        ("likeness.consent", "", "likeness.consent"),
        ("synthetic", "yes", "synthetic"),
        ("surprise", 1, "surprise"),
        ("video.width", 127, "video.width"),
        ("video.width", 14, "video.width"),
        ("video.height", 4098, "video.height"),
        ("video.width", "128", "video.width"),
        ("video.width", 128.0, "hvia"),
        ("video.fps", 0, "video.fps"),
        ("video.fps", 121, "video.fps"),
        ("video.fps", True, "video.fps"),
        ("video.fps", 25, "video.fps * motion.hop is 40000"),
        ("motion.graph", "../face.onnx", "motion.graph"),
        ("motion.graph", "graphs/none.onnx", "motion.graph names 'graphs/none.onnx', which members does not list"),
        ("motion.graph", {"sha256": "abc"}, "motion.graph"),
        ("motion.variants", {"int4": "graphs/motion.onnx"}, "motion.variants.int4"),
        ("motion.variants", "graphs/motion.onnx", "motion.variants"),
        ("motion.variants", {"fp32": "graphs/motion.onnx"}, "motion.variants.fp32"),
        ("face.variants", {"int8": "../face.onnx"}, "face.variants.int8"),
        ("face.variants", {"int8": "graphs/none.onnx"}, "face.variants.int8 names 'graphs/none.onnx', which members"),
        ("motion.frames", 3, "cannot be shared evenly"),
        ("motion.look_ahead", 800, "not a whole number of video frames"),
        ("motion.look_ahead", -1600, "motion.look_ahead"),
        ("motion.state", 0, "motion.state"),
        ("motion.profile", "arkit-53", "motion.profile"),
        ("motion.coefficients", [], "motion.coefficients"),
        ("motion.coefficients", ["jawOpen", "jawOpen"], "a name twice"),
        ("motion.coefficients", list(reversed(ARKIT_52)), "those of the profile arkit-52"),
        ("motion.coefficients.0", "9lives", "motion.coefficients.0"),
        ("face.inputs", ["pose"], "must hold expression"),
        ("face.inputs", ["expression", "expression"], "a name twice"),
        ("face.inputs", ["expression", "sound"], "face.inputs.1"),
        ("face.pose", 4, "face.pose"),
        ("clips", [], "clips"),
        ("clips.0.kind", "gesture", "no clip is of the kind idle"),
        ("clips.0.id", "../idle", "clips.0.id"),
        ("clips.0.frames", 40_000, "clips.0.frames"),
        ("clips.0.matte", "clips/matte.mp4", "which members does not list"),
        ("preview", "preview.jpg", "preview names 'preview.jpg'"),
        ("members.0.path", "manifest.json", "must not list manifest.json"),
        ("members.0.sha256", "A" * 64, "members.0.sha256"),
        ("members.0.size", -1, "members.0.size"),
        ("members.0.size", 2**40, "members.0.size"),
        ("members", [], "members"),
    ],
)
def test_mistakes(parts: Parts, path: str, value: object, words: str) -> None:
    refused(change(parts.manifest, path, value), words)


def test_two_clips_of_one_id(parts: Parts) -> None:
    parts.manifest["clips"] *= 2
    refused(parts.manifest, "two clips have one id")


def test_members_twice(parts: Parts) -> None:
    twin = {**parts.manifest["members"][0], "path": parts.manifest["members"][0]["path"].upper()}
    parts.manifest["members"].append(twin)
    refused(parts.manifest, "lists a path twice")


def test_clips_too_large_together(parts: Parts) -> None:
    for size in ("width", "height"):
        parts.manifest["video"][size] = 4096
    parts.manifest["clips"][0]["frames"] = 2000
    refused(parts.manifest, "over 4 GiB decoded")


def test_several_mistakes_are_counted(parts: Parts) -> None:
    manifest = change(change(parts.manifest, "video.fps", 0), "name", "")
    refused(manifest, "(and 1 more)")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is not JSON"),
        (b"[]", "not a JSON object"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "1e999"),
        (b'{"a": 0.' + b"1" * 99 + b"}", "which no float can hold"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "an integer of 100000 digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a":' * 200_0 + b"1" + b"}" * 200_0, "nested deeper than 16"),
        (b"[" * 100_000, "nested deeper than 16"),
        (b'{"a": "' + b'\\"' * 50_000, "it is not JSON"),
        (b" " * 300_000 + b"{}", "at most 262144 are read"),
        (b'{"format":"hvia/1","engine":"graphs/1","name":"\\ud800"}', "manifest.json"),
    ],
)
def test_json_from_strangers(data: bytes, words: str) -> None:
    refused(data, words)


def test_brackets_inside_strings_nest_nothing(parts: Parts) -> None:
    parts.manifest["description"] = "[" * 1000 + '\\"' + "{" * 1000
    parse_manifest(json.dumps(parts.manifest).encode(), "some.hvia")


def test_paths() -> None:
    assert path_problem("graphs/face.onnx") is None
    assert path_problem("LICENSE") is None
    assert path_problem("") is not None
    assert path_problem("a\n") is not None


def test_a_reference_needs_no_member(parts: Parts, tmp_path: Path) -> None:
    parts.manifest["motion"]["graph"] = {"sha256": "0" * 64}
    del parts.members["graphs/motion.onnx"]
    with open_hvia(parts.rehash().write(tmp_path / "made.hvia")) as avatar:
        assert "graphs/motion.onnx" not in avatar.members
