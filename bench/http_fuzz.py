"""A thousand random requests for every route of the Avatar Server: no 500, no traceback, nothing left behind.

    python bench/http_fuzz.py [--requests 1000] [--route TEXT] [--seed 0] [--no-livekit]

Starts `visavis serve` (with a LiveKit server of the test kit, so that there is a session to aim at), reads its
/openapi.json, and asks each operation for requests that fit it, requests that do not, and requests of raw bytes. Every
answer must have a documented status and fit its schema; every refusal must be {error, code, details}. Exits with 1
otherwise. In the end the server must be healthy and hold no session.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

for kind in ("audio/wav", "audio/pcm", "audio/L16"):
    schemathesis.openapi.media_type(kind, st.binary(max_size=400))

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
TYPES = [
    "application/json",
    "audio/wav",
    "audio/pcm;rate=16000",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "text/plain",
    "",
    ";;;",
    "application/json; charset=utf-16",
]
RAW = st.binary(max_size=400) | st.sampled_from(
    [
        b"",
        b"null",
        b"[]",
        b'"' * 99,
        b"{" * 5000,
        b"[" * 50_000,
        b'{"avatar_id": "\\ud800"}',
        b'{"avatar_id": "../../etc/passwd", "livekit_token": "a.b.c"}',
        b"--x\r\nContent-Disposition: form-data; name=livekit_url\r\n\r\nws://10.0.0.1\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=avatar_image; filename=a.png\r\n\r\n\x89PNG\r\n--x--\r\n",
        b"--x\r\n" * 100,
        b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff",
        b"livekit_url=%ff&livekit_token=%00",
    ]
)


@dataclass
class Tally:
    """What came of the requests to one operation."""

    name: str
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.statuses.values())


class Fuzzer:
    """Asks one server."""

    def __init__(self, url: str, requests: int, start: int, live: Any) -> None:
        self.url, self.requests, self.seed, self.live = url, requests, start, live
        self.http = httpx.Client(base_url=url, timeout=60)
        self.document = self.http.get("/openapi.json").json()

    def run(self, wanted: str) -> Iterator[Tally]:
        """A tally for each operation whose name holds ``wanted``."""
        schema = schemathesis.openapi.from_dict(self.document)
        schema.config.update(base_url=self.url)
        for result in schema.get_all_operations():
            operation = result.ok()
            name = f"{operation.method.upper()} {operation.path}"
            if wanted not in name:
                continue
            tally, began = Tally(name), time.monotonic()
            with contextlib.suppress(AssertionError):
                self._operation(operation, tally)
            tally.seconds = time.monotonic() - began
            yield tally

    def _operation(self, operation: Any, tally: Tally) -> None:
        third = max(1, self.requests // 4)
        aimed = {"path_parameters": {"id": self.live()}} if "{id}" in operation.path and self.live else {}
        fits = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        self._many(lambda case: self._case(case, tally), fits, third)
        if aimed:
            at_live = operation.as_strategy(generation_mode=GenerationMode.POSITIVE, **aimed)
            self._many(lambda case: self._case(case, tally), at_live, third)
        try:
            misfits = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE, **aimed)
            self._many(lambda case: self._case(case, tally), misfits, third)
        except Exception as error:
            if isinstance(error, AssertionError):
                raise
        texts = st.text(max_size=60).map(lambda text: text.encode("utf-8", "ignore").hex("%"))
        ids = st.sampled_from([aimed["path_parameters"]["id"], ""]) if aimed else st.just("")
        raw = st.tuples(st.sampled_from(TYPES), RAW, texts, st.booleans(), ids)
        self._many(lambda made: self._raw(operation, made, tally), raw, max(1, self.requests - tally.requests))

    def _many(self, body: Any, strategy: Any, count: int) -> None:
        options = settings(
            max_examples=count,
            database=None,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        run: Any = seed(self.seed)(options(given(strategy)(body)))  # type: ignore[no-untyped-call]
        run()

    def _case(self, case: Any, tally: Tally) -> None:
        response = case.call(base_url=self.url, timeout=60)
        tally.statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except Exception as error:  # noqa: BLE001 - the kit's failures have no common base that is public
            tally.faults.append(f"{response.status_code}: {str(error)[:600]}")
        self._form(response.status_code, response.content, tally)

    def _raw(self, operation: Any, made: tuple[str, bytes, str, bool, str], tally: Tally) -> None:
        kind, content, text, chunked, live = made
        path = operation.path.replace("{id}", live or (f"%{text}" if text else "x")).replace("{task_id}", f"%{text}")
        headers = {"content-type": kind, "idempotency-key": text[:40]} if text else {"content-type": kind}
        body: Any = iter([content]) if chunked else content
        response = self.http.request(operation.method.upper(), path, content=body, headers=headers)
        tally.statuses[response.status_code] += 1
        self._form(response.status_code, response.content, tally)

    @staticmethod
    def _form(status: int, content: bytes, tally: Tally) -> None:
        """A refusal has our form; no answer is a defect."""
        if status == 500 or b"Traceback (most" in content:
            tally.faults.append(f"{status}: {content[:300]!r}")
        if status >= 400:
            said = json.loads(content) if content else {"error": "", "code": "", "details": {}}  # HEAD has no body
            if not {"error", "code", "details"} <= said.keys():
                tally.faults.append(f"{status}: not our form: {content[:300]!r}")


@contextlib.contextmanager
def served(livekit: bool) -> Iterator[tuple[subprocess.Popen[bytes], str, Any]]:
    """A server in a process of its own, and a function that gives the id of a live session (None without LiveKit)."""
    from visavis.testing.livekit.server import LiveKitServer, free_port

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="visavis-fuzz-"))
        given: dict[str, str] = {}
        room = stack.enter_context(LiveKitServer(Path(folder))) if livekit else None
        if room is not None:
            given = {"LIVEKIT_URL": room.url, "LIVEKIT_API_KEY": room.key, "LIVEKIT_API_SECRET": room.secret}
        port = free_port()
        # A fixed number: with `auto` a machine that is busy otherwise would refuse the session to aim at.
        (Path(folder) / "deployment.yaml").write_text("limits: {max_sessions: 8}\n")
        command = [sys.executable, "-m", "visavis", "serve", "deployment.yaml", "--port", str(port)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_", "VISAVIS_API"))}
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=kept | given, stdout=log, stderr=log)
            stack.callback(_end, process)
            url = f"http://127.0.0.1:{port}"
            _wait_ready(process, url, Path(folder) / "log")
            yield process, url, _live(url) if livekit else None
            said = (Path(folder) / "log").read_text(errors="replace")
            found = re.search(r"Traceback \(most|eyJ[\w-]{8,}\.", said)
            if found:
                where = max(0, found.start() - 500)
                raise SystemExit(f"the log holds a traceback or a token:\n{said[where : where + 4000]}")


def _live(url: str) -> Any:
    def live() -> str:
        wanted = {"avatar_id": "mira", "room_name": "fuzz", "replace": True}
        reply = httpx.post(f"{url}/v1/sessions", json=wanted, timeout=60)
        if not reply.is_success:
            raise SystemExit(f"there is no session to aim at: {reply.status_code} {reply.text}")
        made: str = reply.json()["id"]
        return made

    return live


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready").status_code == 200:
                return
    raise SystemExit(f"the server does not come up:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def held(process: subprocess.Popen[bytes]) -> tuple[int, int, float]:
    """Threads, file handles and MB of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    threads = next(line for line in status.splitlines() if line.startswith("Threads")).split()[1]
    return int(threads), len(os.listdir(f"/proc/{process.pid}/fd")), int(rss) / 1024


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000, help="for each operation")
    parser.add_argument("--route", default="", help="only operations whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-livekit", action="store_true", help="without a LiveKit server: no session to aim at")
    options = parser.parse_args()
    faults = 0
    with served(not options.no_livekit) as (process, url, live):
        fuzzer = Fuzzer(url, options.requests, options.seed, live)
        before = held(process)
        total = 0
        for tally in fuzzer.run(options.route):
            said = " ".join(f"{status}:{count}" for status, count in sorted(tally.statuses.items()))
            each = 1000 * tally.seconds / max(1, tally.requests)
            print(f"{tally.name:45} {tally.requests:6} requests {each:6.1f} ms  {said}", flush=True)
            for fault, count in Counter(tally.faults).most_common(5):
                print(f"    {count} x {fault}")
            faults += len(tally.faults)
            total += tally.requests
        for entry in fuzzer.http.get("/v1/sessions").json()["sessions"]:
            fuzzer.http.delete(f"/v1/sessions/{entry['id']}")
        health = fuzzer.http.get("/health").json()
        after = held(process)
        print(f"{total} requests, {faults} faults; {health}")
        for when, (threads, handles, size) in (("before", before), ("after", after)):
            print(f"{when:6}: {threads} threads, {handles} file handles, {size:.0f} MB")
        if health["active_sessions"]:
            print("a session was left behind")
            faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
