"""The deployment's own Caddyfile in a real Caddy, with TLS, in front of a real Avatar Server and a real LiveKit."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from visavis.testing.livekit.browser import Chromium
from visavis.testing.livekit.fixtures import missing
from visavis.testing.livekit.server import LiveKitServer, free_port
from visavis_server_http.page import vendor

ROOT = Path(__file__).resolve().parents[3]
CADDYFILE = ROOT / "examples" / "deploy" / "Caddyfile"
HELLO = ROOT / "assets" / "demo" / "hello.wav"
MEGA = 2**20


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """What Caddy sees: folders of its own, nothing of the user's, and ``settings``."""
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config")}
    return {"PATH": os.environ["PATH"], **homes, **settings}


@pytest.fixture(scope="module")
def caddy() -> str:
    found = shutil.which("caddy")
    if found is None:
        missing("caddy is not on PATH (apt-get install caddy)")
    return found


@dataclass
class Proxy:
    """A running Caddy: its ports, and the certificate of its own authority."""

    http: int
    https: int
    authority: Path
    log: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https}"

    def client(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(base_url=self.url, verify=context, timeout=60)


@pytest.fixture
def proxy(caddy: str, livekit_server: LiveKitServer, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Start Caddy in front of an address; it listens on loopback alone and asks nobody for a certificate."""
    started: list[subprocess.Popen[bytes]] = []

    def start(upstream: str, https: int, **settings: str) -> Proxy:
        http = free_port()
        here = f"admin off\nskip_install_trust\ndefault_bind 127.0.0.1\nhttp_port {http}\nhttps_port {https}"
        settings = {
            "CADDY_GLOBAL": here,
            "VISAVIS_TLS": "tls internal",
            "VISAVIS_UPSTREAM": upstream.removeprefix("http://"),
            "LIVEKIT_UPSTREAM": livekit_server.http_url.removeprefix("http://"),
            **settings,
        }
        log = tmp_path / "caddy.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [caddy, "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"],
                env=environment(tmp_path, **settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        started.append(process)
        authority = tmp_path / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        made = Proxy(http, https, authority, log)
        _until_it_answers(made, process)
        return made

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def _until_it_answers(proxy: Proxy, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        if proxy.authority.exists():
            try:
                with proxy.client() as client:
                    client.get("/health")
                return
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise AssertionError(f"caddy does not answer: {proxy.log.read_text(errors='replace')[-3000:]}")


SITES = [{}, {"VISAVIS_SITE": "avatars.example.com", "LIVEKIT_SITE": "livekit.example.com"}]


@pytest.mark.parametrize("settings", SITES, ids=["localhost", "public names"])
def test_caddy_validates_the_file(caddy: str, tmp_path: Path, settings: dict[str, str]) -> None:
    ran = subprocess.run(
        [caddy, "validate", "--config", str(CADDYFILE), "--adapter", "caddyfile"],
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Valid configuration" in ran.stdout + ran.stderr
    assert "warn" not in ran.stderr
    formatted = subprocess.run([caddy, "fmt", str(CADDYFILE)], capture_output=True, text=True, check=True, timeout=60)
    assert formatted.stdout == CADDYFILE.read_text(encoding="utf-8")


def test_caddy_proxies_the_server(serve: Callable[..., Any], proxy: Callable[..., Proxy]) -> None:
    serving = serve()
    front = proxy(serving.url, free_port())
    with front.client() as client:
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "healthy")
        assert health.headers["strict-transport-security"] == "max-age=31536000"
        assert "caddy" not in health.headers.get("server", "").lower()
        viewer = client.post("/v1/page/viewers", json={"room_name": "behind-caddy"})
        assert (viewer.status_code, viewer.json()["room_name"]) == (201, "behind-caddy")
        refused = client.get("/v1/sessions/none")
        assert (refused.status_code, refused.json()["code"]) == (404, "SESSION_NOT_FOUND")
        # Bodies pass whole, and what is too long is refused in the server's own words.
        speech = {"Content-Type": "audio/wav"}
        for size in (2 * MEGA, 20 * MEGA):
            allowed = client.post("/v1/sessions/none/speak", content=bytes(size), headers=speech)
            assert (allowed.status_code, allowed.json()["code"]) == (404, "SESSION_NOT_FOUND")
        for _ in range(5):
            long = client.post("/v1/sessions", content=bytes(2 * MEGA), headers={"Content-Type": "application/json"})
            assert (long.status_code, long.json()["code"]) == (413, "BODY_TOO_LARGE")
        assert client.get("/health").status_code == 200
        packed = client.get("/page/style.css", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "default-src 'none'" in packed.headers["content-security-policy"]
        assert client.get("/metrics").status_code == 404
        assert serving.get("/metrics").status_code == 200
        moved = httpx.get(f"http://127.0.0.1:{front.http}/docs", headers={"Host": "localhost"})
        assert moved.status_code == 308
        assert moved.headers["location"].startswith("https://localhost")


def test_a_face_through_caddy(serve: Callable[..., Any], proxy: Callable[..., Proxy], chromium: Chromium) -> None:
    """The whole of a deployment but its containers: page and API over TLS, LiveKit's signalling over wss."""
    if not vendor.present():
        missing(f"LiveKit's JavaScript client is not installed: run `{vendor.COMMAND}`")
    https = free_port()
    serving = serve(env={"LIVEKIT_PUBLIC_URL": f"wss://livekit.localhost:{https}", "VISAVIS_API_KEYS": "a-key-for-all"})
    front = proxy(serving.url, https)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium.options)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(60_000)
        dialled: list[str] = []
        page.on("websocket", lambda socket: dialled.append(socket.url))
        page.goto(front.url)
        page.get_by_label("API key").fill("a-key-for-all")
        page.get_by_label("API key").press("Tab")
        page.get_by_role("button", name="Start with Mira").click()
        expect(page.locator("#status")).to_have_text(re.compile("Mira is here"), timeout=60_000)
        page.set_input_files("#file", HELLO)
        expect(page.locator("#badge")).to_have_text("Mira speaks", timeout=60_000)
        page.get_by_role("button", name="Interrupt").click()
        expect(page.locator("#status")).to_have_text(re.compile("^Interrupted after"), timeout=60_000)
        assert page.evaluate("document.querySelector('#video').videoWidth") == 512
        assert dialled
        assert all(url.startswith(f"wss://livekit.localhost:{https}/") for url in dialled)
        page.get_by_role("button", name="Leave").click()
        expect(page.locator("#status")).to_have_text(re.compile("You left"), timeout=60_000)
        browser.close()
