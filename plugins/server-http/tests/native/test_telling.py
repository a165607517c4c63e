"""What the server tells of itself: figures, log records, and no secret in either."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from visavis.logs import JsonLines, Lines, to_stderr
from visavis.redaction import redacted
from visavis_server_http.accounting import kind_of
from visavis_server_http.telemetry import MOST_SERIES, PrometheusMetrics

pytestmark = pytest.mark.anyio

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJmYWNlIn0.c2lnbmVkLWJ5LW1l"


def figures(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


async def test_figures(serving: Any) -> None:
    async with serving() as bench:
        first = await bench.start()
        await bench.http.get("/nope/really")
        pcm = {"content-type": "audio/pcm;rate=16000"}
        spoken = f"/v1/sessions/{first['id']}/speak"
        await bench.http.post(spoken, params={"wait": "true"}, content=b"\1\2" * 3200, headers=pcm)
        found = figures((await bench.http.get("/metrics")).text)
        assert found["visavis_server_sessions", (("state", "running"),)] == 1
        assert found["avatar_sessions_active", ()] == 1
        assert found["visavis_session_starts_total", (("dialect", "native"),)] == 1
        assert found["visavis_session_start_seconds_count", ()] == 1
        assert found["visavis_segments_total", ()] == 1
        made = (("method", "POST"), ("route", "/v1/sessions"), ("status", "201"))
        assert found["visavis_api_requests_total", made] == 1
        assert found["visavis_api_errors_total", (("route", "other"), ("status", "404"))] == 1
        await bench.http.delete(f"/v1/sessions/{first['id']}")
        after = (await bench.http.get("/metrics")).text
        assert figures(after)["visavis_sessions_ended_total", (("reason", "stop_request"),)] == 1
        assert figures(after)["visavis_session_duration_seconds_count", ()] == 1
        assert figures(after)["visavis_first_frame_seconds_count", ()] == 1
        assert figures(after)["avatar_sessions_active", ()] == 0
        for secret in (first["id"], first["room_name"], first["avatar_identity"]):
            assert secret not in after


def test_one_name_has_one_meaning() -> None:
    metrics = PrometheusMetrics()
    metrics.count("things_total", kind="a")
    metrics.count("things_total", other="b")
    metrics.gauge("things_total", 7.0, kind="a")
    metrics.count("not a name!")
    for number in range(2 * MOST_SERIES):
        metrics.count("many_total", key=str(number))
    told = figures(metrics.exposition().decode())
    assert told["things_total", (("kind", "a"),)] == 1
    assert sum(name == "many_total" for name, _ in told) == MOST_SERIES


def record(message: str, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "visavis.test", "levelname": "INFO", "msg": message})
    vars(made).update(extra)
    return made


def test_lines_say_what_they_are_about() -> None:
    about = record("session runs", session="sess_1", room="the hall", avatar="mira")
    line = Lines().format(about)
    assert line.endswith('visavis.test: session runs session=sess_1 room="the hall" avatar=mira')
    said = json.loads(JsonLines().format(about))
    assert (said["session"], said["room"], said["avatar"], said["level"]) == ("sess_1", "the hall", "mira", "info")
    assert "\n" not in JsonLines().format(record("two\nlines"))


@pytest.mark.parametrize("form", [Lines(), JsonLines()])
def test_no_secret_is_told(form: logging.Formatter) -> None:
    try:
        raise RuntimeError(f"wss://host/rtc?access_token={TOKEN}&auto=1")
    except RuntimeError as error:
        told = form.format(record(f"refused {TOKEN}", token="abc-secret", exc_info=(type(error), error, None)))
    assert "abc-secret" not in told
    assert "eyJ" not in told
    assert "access_token=***" in told


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a {TOKEN} b", "a *** b"),
        ("Authorization: Bearer hush-hush", "Authorization: Bearer ***"),
        ("wss://me:pass@host/x", "wss://***@host/x"),
        ("vv_0123456789abcdef0123", "***"),
        ("a plain sentence", "a plain sentence"),
    ],
)
def test_what_is_blotted_out(text: str, left: str) -> None:
    assert redacted(text) == left


def test_records_of_all_loggers_come_out_in_one_form() -> None:
    root, ours = logging.getLogger(), logging.getLogger("visavis")
    before = (list(root.handlers), root.level, list(ours.handlers), ours.level)
    out = io.StringIO()
    try:
        to_stderr("json", "info", out)
        logging.getLogger("visavis.x").info("one", extra={"room": "hall"})
        logging.getLogger("uvicorn.error").error("token %s", TOKEN)
        logging.getLogger("livekit").warning("not shown")
        logging.getLogger("visavis.x").debug("not shown")
    finally:
        root.handlers[:], ours.handlers[:] = before[0], before[2]
        root.setLevel(before[1])
        ours.setLevel(before[3])
        for name in ("livekit", "uvicorn"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["one", "token ***"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("stop_request", "stop_request"),
        ("nobody spoke for 600 s", "idle"),
        ("the server shuts down", "shutdown"),
        ("the server stops", "shutdown"),
        ("its agent the idle room left the room", "agent_left"),
        ("its agent a never came", "agent_left"),
        ("nobody was in the room for 30 s", "room_empty"),
        ("its maximum duration of 60 s is reached", "max_duration"),
        ("another participant joined with its identity", "identity_taken"),
        ("the room was deleted", "room_closed"),
        ("it was removed from the room", "room_closed"),
        ("the connection to the room was lost (timeout)", "connection_lost"),
        ("replaced by a new session", "replaced"),
        ("something new", "other"),
    ],
)
def test_reasons_are_few_words(reason: str, kind: str) -> None:
    assert kind_of(reason, failed=False) == kind
    assert kind_of(reason, failed=True) == "error"
