"""Damage of every kind to a valid avatar file. Each mutation takes the parts and a source of chance, and gives a file.

``case(parts, seed, number)`` is the same bytes for ever, so that a run can be resumed and a failure repeated.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import onnx
from hvia_forge import Parts

Mutation = Callable[[Parts, random.Random], bytes]

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 16, 127, 128, 255, 256, 1000, 4095, 4096, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32 - 1,
    2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e-300, 1e300,
)  # fmt: skip
TEXTS = (
    "", "x", "hvia/2", "../../etc/passwd", "/etc/passwd", "C:\\evil", "a\0b", "\ud83d\ude00", "\u202e", "\x1b[31m",
    "con", "manifest.json", "manifest.json.sig", "graphs/face.onnx", "clips/idle.mp4", "x" * 5000, "a" * 64,
    "__class__", "{}", "%s%n", "graphs/../graphs/face.onnx", "ﬁle", "graphs/FACE.onnx",
)  # fmt: skip
RAW_JSON = (
    "NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 100, "1.0", "1e2", "0x10", "01", "'x'", "tru",
    '"\\ud800"', '"\\u0000"', "[" * 3000 + "]" * 3000, '{"a":' * 50 + "1" + "}" * 50, '{"a":1,"a":2}', "", '"', "\\",
    "[1,]", "/**/1", "1 2",
)  # fmt: skip
_RAW = "\ue000{}\ue001"
"""Stands for raw text inside a JSON tree until it is written."""


def zipped(files: Mapping[str, bytes], overrides: Mapping[str, Mapping[str, int]] | None = None) -> bytes:
    """A plain zip, stored. ``overrides`` change both headers of a member: crc, packed, size, flags, method."""
    body, directory = bytearray(), bytearray()
    for name, data in files.items():
        told = {"crc": zlib.crc32(data), "packed": len(data), "size": len(data), "flags": 0, "method": 0}
        told.update((overrides or {}).get(name, {}))
        raw = name.encode("utf-8", "surrogatepass")
        sizes = (told["crc"], told["packed"], told["size"])
        common = struct.pack("<HHHHIIIHH", told["flags"], told["method"], 0, 33, *sizes, len(raw), 0)
        directory += b"PK\x01\x02" + struct.pack("<HH", 0x0314, 20) + common
        directory += struct.pack("<HHHII", 0, 0, 0, told.get("attributes", 0o100644 << 16), len(body)) + raw
        body += b"PK\x03\x04" + struct.pack("<H", 20) + common + raw + data
    count = len(files)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def built(parts: Parts, manifest: bytes | None = None, **kwargs: Any) -> bytes:
    """The file of these parts, its manifest written anew or given as bytes."""
    text = json.dumps(parts.manifest).encode() if manifest is None else manifest
    return zipped({"manifest.json": text, **parts.members}, **kwargs)


def damage(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, dropped, doubled or moved."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(max(1, len(out)))
        length = chance.choice((1, 1, 2, 4, 8, 64, 1000))
        match chance.randrange(7):
            case 0 | 1 | 2:
                if out:
                    out[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, out[at] ^ (1 << chance.randrange(8))))
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = chance.randbytes(length)
            case 5:
                out[at:at] = out[at : at + length]
            case _:
                out[at : at + length] = bytes(length)
    return bytes(out)


def whole_file(parts: Parts, chance: random.Random) -> bytes:
    """Bytes of the finished file."""
    return damage(built(parts), chance)


def cut(parts: Parts, chance: random.Random) -> bytes:
    """Cut short, or with something before or behind."""
    data = built(parts)
    match chance.randrange(4):
        case 0 | 1:
            return data[: chance.randrange(len(data))]
        case 2:
            return data + chance.randbytes(chance.randrange(1, 100))
        case _:
            return chance.randbytes(chance.randrange(1, 100)) + data


def zip_fields(parts: Parts, chance: random.Random) -> bytes:
    """One to three fields of the zip's headers."""
    out = bytearray(built(parts))
    for _ in range(chance.choice((1, 1, 2, 3))):
        mark, offsets = chance.choice(
            (
                (b"PK\x05\x06", {4: 2, 6: 2, 8: 2, 10: 2, 12: 4, 16: 4, 20: 2}),
                (b"PK\x01\x02", {4: 2, 8: 2, 10: 2, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 34: 2, 38: 4, 42: 4}),
                (b"PK\x03\x04", {4: 2, 6: 2, 8: 2, 14: 4, 18: 4, 22: 4, 26: 2, 28: 2}),
            )
        )
        places = [at for at in range(len(out)) if out[at : at + 4] == mark]
        if not places:
            continue
        offset = chance.choice(list(offsets))
        width = offsets[offset]
        at = chance.choice(places) + offset
        old = int.from_bytes(out[at : at + width], "little")
        new = chance.choice((0, 1, old + 1, old - 1, old * 2, old ^ 8, 8, 99, len(out), 0xA1ED0000, 2**32 - 1))
        out[at : at + width] = (new % 256**width).to_bytes(width, "little")
    return bytes(out)


def names(parts: Parts, chance: random.Random) -> bytes:
    """Members renamed, doubled, added, dropped, exchanged, with attributes of links and folders."""
    name = chance.choice(list(parts.members))
    overrides: dict[str, dict[str, int]] = {}
    match chance.randrange(7):
        case 0:
            parts.members[chance.choice(TEXTS)] = parts.members.pop(name)
        case 1:
            parts.members[chance.choice(TEXTS)] = parts.members[name]
        case 2:
            del parts.members[name]
        case 3:
            other = chance.choice(list(parts.members))
            parts.members[name], parts.members[other] = parts.members[other], parts.members[name]
        case 4:
            overrides[name] = {"attributes": chance.choice((0o120777 << 16, 0o040755 << 16, 0o10, 0o020666 << 16))}
        case 5:
            parts.members.update({f"m{index}": b"" for index in range(chance.choice((1, 100, 300)))})
        case _:
            parts.members[name] = chance.randbytes(chance.choice((0, 1, 100, 10_000)))
    if chance.random() < 0.7:
        parts.rehash()
    return built(parts, overrides=overrides)


@cache
def bomb(size: int) -> bytes:
    """So many zeros, deflated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [packer.compress(bytes(min(1 << 20, size - at))) for at in range(0, size, 1 << 20)]
    return b"".join((*pieces, packer.flush()))


def bombs(parts: Parts, chance: random.Random) -> bytes:
    """Members that unpack to more than they take, or than they say."""
    size = chance.choice((1000, 1 << 20, 20 << 20, 300 << 20))
    packed = bomb(size)
    name = chance.choice(("bomb.bin", *parts.members))
    said = chance.choice((size, size, len(packed), 1000, 2**31, 2**32 - 1, 0))
    parts.members[name] = packed
    parts.rehash()
    for member in parts.manifest["members"]:
        if member["path"] == name:
            member["size"] = chance.choice((said, size, len(packed)))
    crc = zlib.crc32(bytes(min(size, 20 << 20)))
    return built(parts, overrides={name: {"method": 8, "size": said, "crc": crc}})


def _spots(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            found += _spots(value, (*path, key))
    return found


def _odd(old: Any, chance: random.Random) -> Any:
    """Something else in a value's place."""
    choices: list[Any] = [None, True, [], {}, [old], {"a": old}, str(old), chance.choice(NUMBERS), chance.choice(TEXTS)]
    if isinstance(old, int | float) and not isinstance(old, bool):
        choices += [old + 1, old - 1, -old, old * 2, float(old), old + 0.5, chance.choice(NUMBERS)] * 2
    if isinstance(old, list):
        choices += [old * 2, old[:-1], old[::-1], old * 50]
    if isinstance(old, str):
        choices += [old + "x", old[:-1], old.upper(), chance.choice(TEXTS)]
    choices.append(_RAW.format(chance.choice(RAW_JSON)))
    return copy.deepcopy(chance.choice(choices))


def changed_json(tree: Any, chance: random.Random) -> Any:
    """A copy of a JSON tree with one to three values changed, dropped or added."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        spots = _spots(tree)
        if not spots:
            break
        *steps, last = chance.choice(spots)
        at = tree
        for step in steps:
            at = at[step]
        match chance.randrange(8):
            case 0:
                del at[last]
            case 1 if isinstance(at, dict):
                at[chance.choice(("extra", "__proto__", "format", *TEXTS[:4]))] = _odd(at[last], chance)
            case _:
                at[last] = _odd(at[last], chance)
    return tree


def json_text(tree: Any) -> bytes:
    """JSON, raw stretches included."""
    text = json.dumps(tree, ensure_ascii=False)
    while "\ue000" in text:
        start = text.index('"\ue000')
        end = text.index('\ue001"', start)
        raw = json.loads(text[start : end + 2])[1:-1]
        text = text[:start] + raw + text[end + 2 :]
    return text.encode("utf-8", "surrogatepass")


def manifest_values(parts: Parts, chance: random.Random) -> bytes:
    """Values of the manifest."""
    return built(parts, json_text(changed_json(parts.manifest, chance)))


def manifest_bytes(parts: Parts, chance: random.Random) -> bytes:
    """Bytes of the manifest's text."""
    return built(parts, damage(json.dumps(parts.manifest).encode(), chance))


def placement_values(parts: Parts, chance: random.Random) -> bytes:
    """Values of a clip's placement, its hash right."""
    tree = changed_json(json.loads(parts.members["clips/idle.json"]), chance)
    parts.members["clips/idle.json"] = json_text(tree)
    return built(parts.rehash())


def member_bytes(parts: Parts, chance: random.Random) -> bytes:
    """Bytes of one member, its hash right."""
    name = chance.choice(list(parts.members))
    parts.members[name] = damage(parts.members[name], chance)
    return built(parts.rehash())


def video_boxes(parts: Parts, chance: random.Random) -> bytes:
    """The boxes around the video, which is where its numbers are."""
    data = parts.members["clips/idle.mp4"]
    moov = data.index(b"moov") - 4
    parts.members["clips/idle.mp4"] = data[:moov] + damage(data[moov:], chance)
    return built(parts.rehash())


def graph_bytes(parts: Parts, chance: random.Random) -> bytes:
    """Bytes of a graph outside of its largest constants, its hash right."""
    name = f"graphs/{chance.choice(('motion', 'face'))}.onnx"
    model = onnx.load_model_from_string(parts.members[name])
    heavy = [(tensor, tensor.raw_data) for tensor in model.graph.initializer if len(tensor.raw_data) > 2000]
    marks = {bytes([0xA0 + index]) * 40: data for index, (_, data) in enumerate(heavy)}
    for mark, (tensor, _) in zip(marks, heavy, strict=True):
        tensor.raw_data = mark
    if chance.random() < 0.5:
        # Without the weights: their lengths are all wrong, but the parser meets every byte.
        data = damage(model.SerializeToString(), chance)
    else:
        data = damage(parts.members[name], random.Random(chance.random()))
    parts.members[name] = data
    return built(parts.rehash())


def graph_values(parts: Parts, chance: random.Random) -> bytes:
    """Fields of a graph's protobuf, found by reflection, its hash right."""
    name = f"graphs/{chance.choice(('motion', 'face'))}.onnx"
    model = onnx.load_model_from_string(parts.members[name])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        _change_message(_some_message(model, chance), chance)
    parts.members[name] = model.SerializeToString(deterministic=True)
    return built(parts.rehash())


def _some_message(model: Any, chance: random.Random) -> Any:
    """A message somewhere inside, by a walk that stops by chance."""
    at = model if chance.random() < 0.1 else model.graph
    while chance.random() < 0.85:
        inner: list[Any] = []
        for found, value in at.ListFields():
            if found.message_type is not None:
                inner += list(value) if hasattr(value, "append") else [value]
        if not inner:
            break
        at = chance.choice(inner)
    return at


_OPERATORS = ("Loop", "If", "Scan", "Identity", "Conv", "Reshape", "Expand", "Tile", "Resize", "ConstantOfShape", "Pad",
              "Slice", "Concat", "Gather", "Split", "DepthToSpace", "MatMul", "Gemm", "ConvTranspose", "AveragePool",
              "Squeeze", "Flatten", "QLinearConv", "Transpose", "Softmax", "Where", "CumSum", "Unsqueeze", "Cast",
              "ReduceSum", "LayerNormalization", "com.evil")  # fmt: skip


def _change_message(message: Any, chance: random.Random) -> None:
    fields = list(message.DESCRIPTOR.fields)
    chosen = chance.choice([found for found, _ in message.ListFields()] or fields)
    if chance.random() < 0.15:
        chosen = chance.choice(fields)
    if message.DESCRIPTOR.name == "NodeProto" and chance.random() < 0.3:
        message.op_type = chance.choice(_OPERATORS)
        return
    value = getattr(message, chosen.name)
    repeated = hasattr(value, "append") or hasattr(value, "add")
    try:
        if repeated:
            _change_list(value, chosen, chance)
        elif chosen.message_type is not None:
            message.ClearField(chosen.name) if chance.random() < 0.5 else value.SetInParent()
        elif chance.random() < 0.1:
            message.ClearField(chosen.name)
        else:
            setattr(message, chosen.name, _scalar(chosen, value, chance))
    except (ValueError, TypeError, OverflowError):
        message.ClearField(chosen.name)


def _change_list(value: Any, chosen: Any, chance: random.Random) -> None:
    if chosen.message_type is not None:
        match chance.randrange(4):
            case 0 if len(value):
                del value[chance.randrange(len(value))]
            case 1 if len(value):
                value.extend([copy.deepcopy(chance.choice(list(value)))])
            case 2 if len(value) > 1:
                first = chance.randrange(len(value) - 1)
                moved = copy.deepcopy(value[first])
                del value[first]
                value.extend([moved])
            case _:
                value.add()
    elif len(value) and chance.random() < 0.7:
        at = chance.randrange(len(value))
        value[at] = _scalar(chosen, value[at], chance)
    elif len(value) and chance.random() < 0.5:
        del value[chance.randrange(len(value))]
    else:
        value.append(_scalar(chosen, value[0] if len(value) else None, chance))


def _scalar(chosen: Any, old: Any, chance: random.Random) -> Any:
    if chosen.cpp_type == chosen.CPPTYPE_STRING:
        if chosen.type == chosen.TYPE_BYTES:
            return damage(old or b"x", chance) if chance.random() < 0.7 else chance.choice(TEXTS).encode()
        near = [f"t{chance.randrange(40)}", f"c{chance.randrange(40)}", "expression", "pcm", "state", "y", "B", "axes"]
        return chance.choice((chance.choice(near), chance.choice(TEXTS), chance.choice(_OPERATORS)))
    if chosen.cpp_type in (chosen.CPPTYPE_FLOAT, chosen.CPPTYPE_DOUBLE):
        return chance.choice((0.0, -1.0, 1e30, float("nan"), float("inf"), 0.5))
    if isinstance(old, int) and chance.random() < 0.5:
        return old + chance.choice((1, -1, 2, 4096, -4096))
    return chance.choice([number for number in NUMBERS if isinstance(number, int)])


_GROWERS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("Concat", 2, {"axis": 0}), ("Concat", 2, {"axis": 1}), ("Mul", 2, {}), ("Add", 2, {}), ("Div", 2, {}),
    ("Tile", 2, {}), ("Expand", 2, {}), ("Pad", 2, {}), ("Reshape", 2, {}), ("ConstantOfShape", 1, {}),
    ("Shape", 1, {}), ("Cast", 1, {"to": 7}), ("Cast", 1, {"to": 1}), ("Gather", 2, {"axis": 0}), ("Slice", 3, {}),
    ("Transpose", 1, {}), ("MatMul", 2, {}), ("Unsqueeze", 2, {}), ("Squeeze", 1, {}), ("Neg", 1, {}),
    ("ReduceProd", 1, {"keepdims": 0}), ("Where", 3, {}), ("Equal", 2, {}), ("Max", 2, {}), ("Identity", 1, {}),
    ("CumSum", 2, {}), ("Exp", 1, {}), ("DepthToSpace", 1, {"blocksize": 2}), ("Flatten", 1, {"axis": 1}),
    ("Split", 1, {"axis": 0}),
)  # fmt: skip


def growing_graphs(parts: Parts, chance: random.Random) -> bytes:
    """A sound graph with up to sixty more nodes that compute shapes, and tensors of those shapes, from anything."""
    which = chance.choice(("motion", "face"))
    name = f"graphs/{which}.onnx"
    model = onnx.load_model_from_string(parts.members[name])
    pool = ["pcm" if which == "motion" else "expression", "k0"]
    numbers = [chance.choice((-1, 0, 1, 2, 3, 64, 4096, 2**31, 2**40, 2**62)) for _ in range(chance.choice((1, 2, 4)))]
    model.graph.initializer.append(onnx.helper.make_tensor("k0", onnx.TensorProto.INT64, [len(numbers)], numbers))
    favourite = chance.choice(_GROWERS)
    for index in range(chance.choice((1, 3, 10, 60))):
        kind, count, attributes = favourite if chance.random() < 0.5 else chance.choice(_GROWERS)
        recent = pool[-2:] if chance.random() < 0.8 else pool
        inputs = [chance.choice(recent) for _ in range(count)]
        model.graph.node.append(onnx.helper.make_node(kind, inputs, [f"g{index}"], **attributes))
        pool.append(f"g{index}")
    parts.members[name] = model.SerializeToString(deterministic=True)
    return built(parts.rehash())


def nasty_graphs(parts: Parts, chance: random.Random) -> bytes:
    """Graphs made to hurt a parser: deep, wide, doubled, or another format altogether."""
    name = f"graphs/{chance.choice(('motion', 'face'))}.onnx"
    data = parts.members[name]
    match chance.randrange(7):
        case 0:
            deep = b""
            for _ in range(chance.choice((5, 50, 2000))):
                deep = _field(7, _field(1, _field(5, _field(6, deep))))
            data = deep
        case 1:
            data = chance.choice((b"\x42\x00", b"\x3a\x02\x0a\x00", b"\x72\x00", b"\x3a\x02\x2a\x00")) * 150_000
        case 2:
            data = data * 2
        case 3:
            data = data[:4] + b"ORTM" + data[8:]
        case 4:
            data = data + _field(7, _field(5, _field(1, b"\x80\x80\x80\x80\x10") + _field(4, bytes(1000))))
        case 5:
            data = data + _field(chance.choice((9, 20, 25, 126)), b"x")
        case _:
            data = data + _field(7, b"".join(_field(1, _field(4, b"Relu")) for _ in range(20_000)))
    parts.members[name] = data
    return built(parts.rehash())


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def foreign(parts: Parts, chance: random.Random) -> bytes:
    """No avatar at all."""
    size = chance.choice((0, 1, 3, 21, 22, 23, 100, 5000))
    heads = (b"", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x04", b"\x89PNG\r\n\x1a\n", b"AVLM")
    body = chance.choice((chance.randbytes(size), bytes(size), b"hello " * size))
    return chance.choice(heads) + body


MUTATIONS: tuple[Mutation, ...] = (
    whole_file, cut, zip_fields, names, bombs, manifest_values, manifest_bytes, placement_values, member_bytes,
    video_boxes, graph_bytes, graph_values, growing_graphs, nasty_graphs, foreign,
)  # fmt: skip
WEIGHTS = (4, 2, 8, 5, 2, 14, 4, 8, 5, 5, 10, 22, 6, 3, 2)
"""How often each comes; what native code reads comes most."""


def case(parts: Parts, seed: int, number: int) -> tuple[str, bytes]:
    """The name of a mutation and the file it makes: always the same for the same numbers."""
    chance = random.Random(f"{seed}/{number}")
    mutation = chance.choices(MUTATIONS, WEIGHTS)[0]
    return mutation.__name__, mutation(copy.deepcopy(parts), chance)
