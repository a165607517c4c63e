"""How mistakes read: all at once, by line, at their place, with the fix, and without a secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from visavis.config import Deployment

Report = Callable[..., str]


def test_the_whole_report(report: Report) -> None:
    assert report(
        """\
store: {use: filesystem, rot: ./a}
renderer:
  use: onnxruntime
  thraeds: 2
  threads: none
limts: {max_sessions: 3}
"""
    ) == (
        "d.yaml:1:26: store.rot: unknown option 'rot'\n"
        "    store: {use: filesystem, rot: ./a}\n"
        "                             ^^^\n"
        "    did you mean 'root'? store 'filesystem' (visavis-standard 1.2) has the options: root\n"
        "d.yaml:4:3: renderer.thraeds: unknown option 'thraeds'\n"
        "      thraeds: 2\n"
        "      ^^^^^^^\n"
        "    did you mean 'threads'? renderer 'onnxruntime' (visavis-standard 1.2) has the options: "
        "cache, device, precision, threads, windows\n"
        "d.yaml:5:12: renderer.threads: should be a valid integer, unable to parse string as an integer\n"
        "      threads: none\n"
        "               ^^^^\n"
        "    threads: How many threads.\n"
        "d.yaml:6:1: limts: unknown section 'limts'\n"
        "    limts: {max_sessions: 3}\n"
        "    ^^^^^\n"
        "    did you mean 'limits'?"
    )


MISTAKES = {
    "no such plugin": ("renderer: {use: onxruntime}", "d.yaml:1:17: renderer: no renderer named 'onxruntime' is"),
    "no such plugin, the fix": ("renderer: {use: onxruntime}", "did you mean 'onnxruntime'?"),
    "not installed, the fix": ("server: {use: grpc}", "run `visavis plugins` to see what is there"),
    "no use": ("store: {root: x}", "store.use: this section does not say which plugin to use\n"),
    "no use, the fix": ("store: {root: x}", "installed: filesystem"),
    "use is a list": ("store: {use: [a]}", "d.yaml:1:14: store.use: the name of a plugin is wanted"),
    "a word for a section": ("source: file", "write `source: {use: file}`"),
    "a list for a section": ("source: [file]", "d.yaml:1:9: source: a section is a mapping"),
    "an empty section": ("store:\nsource: {use: file}", "d.yaml:1:1: store: this section is empty"),
    "an option of another section": ("port: 1", "it is an option of server 'http' (visavis-rooms 0.3)"),
    "an option in the wrong section": (
        "transport: {use: file, port: 1}",
        "d.yaml:1:24: transport.port: unknown option 'port'",
    ),
    "its owner": ("transport: {use: file, port: 1}", "it is an option of server 'http' (visavis-rooms 0.3)"),
    "a session's option in the part": (
        "source: {use: file, path: a.wav}",
        "it belongs in the section `session.source`",
    ),
    "a part's option in the session": (
        "session: {source: {path: a}, transport: {path: b}, renderer: {threads: 2}}",
        "session.renderer.threads: unknown option 'threads'",
    ),
    "out of range": ("renderer: {use: onnxruntime, threads: 0}", "should be greater than or equal to 1"),
    "a validator's words": ("renderer: {use: onnxruntime, device: tpu}", "renderer.device: tpu is not a device"),
    "both sides of a union": (
        "renderer: {use: onnxruntime, precision: half}",
        "renderer.precision: should be a valid integer, unable to parse string as an integer, or should be 'auto'",
    ),
    "deep inside": (
        "renderer:\n  use: onnxruntime\n  windows:\n  - before: 1\n  - befor: 1",
        "d.yaml:5:5: renderer.windows[1].befor: unknown option 'befor'",
    ),
    "missing in the session": ("session: {avatar: mira}", "d.yaml:1:1: session.source.path: this option is missing"),
    "missing, the fix": ("session: {avatar: mira}", "path: The recording."),
    "limits": ("limits: {max_sessions: none}", "limits.max_sessions: should be a valid integer"),
    "limits as a list": ("limits: [1]", "d.yaml:1:9: limits: a mapping of options is wanted"),
    "session's key": ("session: {avtar: mira}", "did you mean 'avatar'?"),
    "twice the same key": ("store: {use: filesystem}\nstore: {use: filesystem}", "d.yaml:2:1: store: this key stands"),
    "twice, where": ("store: {use: filesystem}\nstore: {use: filesystem}", "it is also in line 1"),
    "twice, deeper": ("limits: {max_sessions: 1, max_sessions: 2}", "limits.max_sessions: this key stands here twice"),
    "needs another part": (
        "source: {use: datastream}\ntransport: {use: file}",
        "d.yaml:1:15: source.use: the source 'datastream' needs 'livekit.room', which none of store 'filesystem', "
        "renderer 'onnxruntime', transport 'file' provides",
    ),
    "needs another part, the fix": ("source: {use: datastream}", "use `transport: {use: livekit}`"),
    "a tag": ("store: !!python/object/apply:os.system [id]", "d.yaml:1:8: store: a tag is not allowed here"),
    "merging": ("a: &a {use: file}\nsource: {<<: *a}", "merging with << is not supported"),
    "a list as a key": ("? [a, b]\n: 1", "a key must be a name"),
    "a tab": ("store:\n\tuse: filesystem", "indent with spaces, not with tabs"),
    "half a file": ("store: {use: filesystem", "this is not YAML: expected ',' or '}'"),
    "indented wrongly": ("store: x\n  use: y", "d.yaml:2:6: this is not YAML: mapping values are not allowed here"),
    "two documents": ("store: {use: filesystem}\n---\nstore: {}", "d.yaml:2:1: this is not YAML: a second document"),
    "empty": ("", "d.yaml:1:1: the file is empty"),
    "comments alone": ("# nothing\n", "the file is empty"),
    "a list": ("- store", "the file must hold sections"),
    "a word": ("hello", "the file must hold sections"),
    "a control character": ("store: \x01", "d.yaml:1:8: a character here is not allowed in YAML"),
    "an unset variable": ("store: {use: filesystem, root: '${ROOM}'}", "the environment variable ROOM is not set"),
    "a bare reference in braces": ("limits: {max_sessions: ${N}}", "between { } quote a reference to the environment"),
    "half a reference": ("store: {use: filesystem, root: '${'}", "the reference to the environment is malformed"),
    "an alias of itself": ("store: &s {use: filesystem, root: *s}", "an alias refers to what it is a part of"),
    "too deep": ("limits: " + "[" * 40 + "]" * 40, "nested deeper than 32 levels"),
    "far too deep": ("limits: " + "[" * 50_000, "this cannot be read"),
}


@pytest.mark.parametrize("text, said", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(report: Report, text: str, said: str) -> None:
    told = report(text)
    assert said in told
    assert "Traceback" not in told
    assert "pydantic" not in told


def test_an_unset_variable_is_said_once_with_the_fix(report: Report) -> None:
    told = report("limits: {max_sessions: '${SESIONS}'}", {"SESSIONS": "3"})
    assert told.count("limits.max_sessions") == 1
    assert "did you mean SESSIONS? Otherwise set SESIONS, or write ${SESIONS:-default}" in told


def test_problems_stand_in_the_order_of_the_file(report: Report) -> None:
    told = report("session: {avtar: x}\nzzz: 1\nrenderer: {use: nope}\nlimits: {max_sessions: -1}\n")
    rows = [row for row in told.splitlines() if row.startswith("d.yaml:")]
    assert [int(row.split(":")[1]) for row in rows] == sorted(int(row.split(":")[1]) for row in rows)
    assert len(rows) == 6  # the session also lacks two paths


def test_not_utf8(report: Report) -> None:
    assert "d.yaml:2:3: the file is not UTF-8 text" in report(b"a: 1\nb:\xff 2\n")


def test_a_file_with_a_byte_order_mark_and_crlf_is_read(load: Callable[..., Deployment]) -> None:
    assert load(b"\xef\xbb\xbfrenderer:\r\n  use: onnxruntime\r\n  threads: 3\r\n").renderer.config.threads == 3


def test_an_alias_bomb_is_refused_quickly(report: Report) -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "more than 10000 values once its aliases are followed" in report("\n".join(rows))


SECRETS = {
    "a field of the model": "transport: {use: livekit, passcode: hunter2-xyz, rom: 1}",
    "by its key": "transport: {use: livekit, api_key: hunter2-xyz, rom: 1}",
    "a slip in its key": "transport: {use: livekit, passcod: hunter2-xyz, rom: 1}",
    "a wrong type": "transport:\n  use: livekit\n  passcode: [hunter2-xyz]",
    "in the session": "transport: {use: livekit}\nsession: {source: {path: a}, transport: {token: hunter2-xyz, x: 1}}",
    "where it does not belong": "renderer: {use: onnxruntime, api_secret: hunter2-xyz}",
    "under an unknown section": "livekit:\n  password: hunter2-xyz\n  nope: 1",
    "a nested value": "secrets: {a: {b: hunter2-xyz}}",
    "in an address": "transport: {use: livekit, url: 'ws://me:hunter2-xyz@host', rom: 1}",
    "in a validator's words": "renderer: {use: onnxruntime, device: '${DEVICE}'}",
    "of the environment": "renderer: {use: onnxruntime, threads: '${DEVICE}'}",
    "as a default": "renderer: {use: onnxruntime, threads: '${NONE:-hunter2-xyz}'}",
    "in broken YAML": "transport:\n  api_key: hunter2-xyz: b\n",
    "in broken YAML, further down": "transport:\n  api_key: >\n    hunter2-xyz\n   :: {\n  b: [",
    "as an alias": "transport:\n  api_key: *hunter2-xyz\n",
    "as a tag": "transport: {use: livekit, api_key: !hunter2-xyz a}\n",
    "twice": "transport: {use: livekit, api_key: a, api_key: hunter2-xyz}",
    "in a comment": "renderer: {use: onnxruntime, thraeds: 1} # password hunter2-xyz",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_never_shown(report: Report, text: str) -> None:
    told = report(text, {"DEVICE": "hunter2-xyz"})
    assert "hunter2" not in told
    assert "d.yaml:" in told
