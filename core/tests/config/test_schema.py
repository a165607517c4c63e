"""The JSON Schema accepts what the loader accepts, and refuses what an editor can see is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from visavis.config import deployment_schema
from visavis.registry import Registry


@pytest.fixture
def validator(registry: Registry) -> Any:
    schema = deployment_schema(registry)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


GOOD = [
    "{}",
    "store: {use: filesystem, root: a}",
    "renderer: {use: onnxruntime, threads: 2, windows: [{before: 1}], cache: off}",
    "renderer: {use: onnxruntime, threads: '${N:-1}'}",
    "transport: {use: livekit, url: x, api_key: '${K}'}\nsession: {source: {path: a}, transport: {room: r}}",
    "session: {avatar: a, source: {path: b, strict: true}, transport: {path: c}}",
    "limits: {max_sessions: auto, idle_timeout_s: 2}",
]
BAD = [
    "nope: 1",
    "store: {}",
    "store: {use: nope}",
    "store: {use: filesystem, rot: a}",
    "renderer: {use: onnxruntime, threads: 0}",
    "renderer: {use: onnxruntime, threads: many}",
    "renderer: {use: onnxruntime, windows: [{befor: a}, {before: x}]}",
    "session: {transport: {room: r}}",
    "source: {use: file}\nsession: {source: {pth: a}}",
    "transport: {use: livekit}\nsession: {transport: {path: r}}",
    "limits: {max_sessions: few}",
]


@pytest.mark.parametrize("text", GOOD)
def test_accepted(validator: Any, text: str) -> None:
    assert list(validator.iter_errors(YAML(typ="safe").load(text))) == []


@pytest.mark.parametrize("text", BAD)
def test_refused(validator: Any, text: str) -> None:
    assert list(validator.iter_errors(YAML(typ="safe").load(text)))


def test_descriptions_reach_the_editor(registry: Registry) -> None:
    schema = deployment_schema(registry)
    assert schema["$defs"]["renderer.onnxruntime"]["properties"]["threads"]["description"] == "How many threads."
    assert "onnxruntime: ONNX Runtime." in schema["properties"]["renderer"]["properties"]["use"]["description"]
