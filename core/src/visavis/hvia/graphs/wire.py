"""A look at an ONNX file's protobuf before a parser builds objects of it.

A parser spends some hundred bytes on a field that takes two in the file, merges fields that come twice, and keeps
what it does not know for the next reader. This scan walks the messages without building anything, counts, and
refuses whatever a graph of an avatar never holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from visavis.hvia.limits import LIMITS, Limits

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


class _Field(NamedTuple):
    wire: int
    message: str = ""
    repeated: bool = False
    typed: bool = False
    """Numbers that grow when parsed."""
    text: bool = False
    """UTF-8; a parser hands out bytes where it is not."""


def _message(name: str) -> _Field:
    return _Field(_BYTES, name)


def _messages(name: str) -> _Field:
    return _Field(_BYTES, name, repeated=True)


def _numbers(wire: int) -> _Field:
    return _Field(wire, repeated=True, typed=True)


_INT = _Field(_VARINT)
_TEXT = _Field(_BYTES, text=True)
_TEXTS = _Field(_BYTES, repeated=True, text=True)
_RAW = _Field(_BYTES)
_RAWS = _Field(_BYTES, repeated=True)

_SCHEMA: Final[Mapping[str, Mapping[int, _Field]]] = {
    "model": {
        1: _INT, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: _INT, 6: _TEXT, 7: _message("graph"), 8: _messages("opset"),
        14: _messages("pair"),
    },
    "graph": {
        1: _messages("node"), 2: _TEXT, 5: _messages("tensor"), 10: _TEXT, 11: _messages("value"),
        12: _messages("value"), 13: _messages("value"), 14: _messages("annotation"), 16: _messages("pair"),
    },
    "node": {
        1: _TEXTS, 2: _TEXTS, 3: _TEXT, 4: _TEXT, 5: _messages("attribute"), 6: _TEXT, 7: _TEXT, 9: _messages("pair"),
    },
    "attribute": {
        1: _TEXT, 2: _Field(_FIXED32), 3: _INT, 4: _RAW, 5: _message("tensor"), 7: _numbers(_FIXED32),
        8: _numbers(_VARINT), 9: _RAWS, 13: _TEXT, 20: _INT,
    },
    "tensor": {
        1: _numbers(_VARINT), 2: _INT, 4: _numbers(_FIXED32), 5: _numbers(_VARINT), 7: _numbers(_VARINT), 8: _TEXT,
        9: _RAW, 10: _numbers(_FIXED64), 11: _numbers(_VARINT), 12: _TEXT, 14: _INT, 16: _messages("pair"),
    },
    "value": {1: _TEXT, 2: _message("type"), 3: _TEXT, 4: _messages("pair")},
    "type": {1: _message("tensor type"), 6: _TEXT},
    "tensor type": {1: _INT, 2: _message("shape")},
    "shape": {1: _messages("dimension")},
    "dimension": {1: _INT, 2: _TEXT, 3: _TEXT},
    "opset": {1: _TEXT, 2: _INT},
    "pair": {1: _TEXT, 2: _TEXT},
    "annotation": {1: _TEXT, 2: _messages("pair")},
}  # fmt: skip
"""What each message may hold, by field number: onnx.proto, without all that an avatar's graph never has."""

_REASONS: Final[Mapping[tuple[str, int], str]] = {
    ("model", 20): "it holds training information",
    ("model", 25): "it defines functions of its own",
    ("graph", 15): "it holds sparse tensors",
    ("attribute", 6): "it has control flow (a graph inside a node)",
    ("attribute", 11): "it has control flow (a graph inside a node)",
    ("attribute", 21): "it refers to attributes of a function",
    ("attribute", 22): "it holds sparse tensors",
    ("attribute", 23): "it holds sparse tensors",
    ("tensor", 6): "it holds text tensors",
    ("tensor", 13): "it keeps data outside the file (external data)",
}


@dataclass(slots=True)
class _Walk:
    data: bytes
    limits: Limits
    fields: int = 0
    typed: int = 0

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise ValueError("it is not an ONNX file: its protobuf is broken")

    def skip(self, wire: int, at: int, end: int) -> tuple[int, int]:
        """Where the field's value starts and where it ends."""
        if wire == _VARINT:
            return at, self.varint(at, end)[1]
        if wire == _BYTES:
            length, at = self.varint(at, end)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("it is not an ONNX file: its protobuf is broken")
        if at + length > end:
            raise ValueError("it is not an ONNX file: its protobuf is cut short")
        return at, at + length

    def utf8(self, start: int, end: int) -> None:
        try:
            self.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError("it is not an ONNX file: a name in it is not UTF-8") from error

    def message(self, kind: str, at: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Check the fields of one message; yields the messages inside."""
        known, seen = _SCHEMA[kind], set()
        while at < end:
            self.fields += 1
            if self.fields > self.limits.graph_fields:
                raise ValueError(f"it has more than {self.limits.graph_fields} fields")
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if reason := _REASONS.get((kind, number)):
                raise ValueError(reason)
            expected = known.get(number)
            if expected is None or not (wire == expected.wire or (wire == _BYTES and expected.typed)):
                raise ValueError(f"its {kind} holds a field ({number}) that the format does not allow")
            if number in seen and not expected.repeated:
                raise ValueError(f"its {kind} holds a field ({number}) twice")
            seen.add(number)
            start, at = self.skip(wire, at, end)
            if expected.typed:
                self.typed += at - start
            if expected.text:
                self.utf8(start, at)
            if expected.message:
                yield expected.message, start, at
        if self.typed > self.limits.typed_tensor:
            raise ValueError(f"more than {self.limits.typed_tensor} bytes of its numbers are not raw data")


def scan(data: bytes, *, limits: Limits = LIMITS) -> None:
    """Refuse an ONNX file that is malformed, too intricate, or holds what an avatar's graph never has.

    Raises ValueError with a reason.
    """
    if data[4:8] == b"ORTM":
        raise ValueError("it is an ONNX Runtime file, not an ONNX file")
    walk = _Walk(data, limits)
    todo = [("model", 0, len(data))]
    while todo:
        todo.extend(walk.message(*todo.pop()))
