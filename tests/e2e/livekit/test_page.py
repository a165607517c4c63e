"""The server's page in a real Chromium, on a desktop and on a phone: a face that moves its mouth, with sound."""

from __future__ import annotations

import re
import shutil
import statistics
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import visavis_store_filesystem
from playwright.sync_api import Browser, Page, expect, sync_playwright
from visavis.testing.livekit.browser import Chromium
from visavis.testing.livekit.fixtures import missing
from visavis.testing.livekit.server import LiveKitServer
from visavis_server_http.page import vendor

ROOT = Path(__file__).resolve().parents[3]
HELLO = ROOT / "assets" / "demo" / "hello.wav"
KEPT = ROOT / ".cache" / "screenshots"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
PATIENCE_MS = 60_000

# Notes of every frame that is shown: how much the region of the mouth differs from the one before, and how loud it is.
WATCH = """
() => {
  const video = document.querySelector("#video");
  const pen = new OffscreenCanvas(64, 48).getContext("2d", { willReadFrequently: true });
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  context.createMediaStreamSource(document.querySelector("#sounds audio").srcObject).connect(analyser);
  const sound = new Float32Array(1024);
  let before = null;
  globalThis.seen = [];
  const look = (now, { presentedFrames, mediaTime }) => {
    const { videoWidth: width, videoHeight: height } = video;
    pen.drawImage(video, 0.4 * width, 0.5 * height, 0.2 * width, 0.15 * height, 0, 0, 64, 48);
    const { data } = pen.getImageData(0, 0, 64, 48);
    let motion = 0;
    for (let i = 1; before && i < data.length; i += 4) motion += Math.abs(data[i] - before[i]) / (64 * 48);
    analyser.getFloatTimeDomainData(sound);
    const level = Math.sqrt(sound.reduce((sum, x) => sum + x * x, 0) / sound.length);
    if (before) seen.push({ frame: presentedFrames, at: mediaTime, width, height, motion, level });
    before = data.slice();
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
}
"""


@pytest.fixture(scope="module")
def browser(chromium: Chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(**chromium.options)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page; at the end no page may have complained."""
    if not vendor.present():
        missing(f"LiveKit's JavaScript client is not installed: run `{vendor.COMMAND}`")
    complaints: list[str] = []
    contexts = []

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**{**DESKTOP, **options}, permissions=["microphone"])
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def status(page: Page, pattern: str) -> None:
    expect(page.locator("#status")).to_have_text(re.compile(pattern), timeout=PATIENCE_MS)


def until(page: Page, condition: str) -> None:
    """Wait for a condition of the page."""
    page.wait_for_function(f"() => {condition}", timeout=PATIENCE_MS)


def beginning(path: Path, seconds: float) -> Path:
    """The first seconds of the recording as a file of its own."""
    with wave.open(str(HELLO), "rb") as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(round(seconds * whole.getframerate())))
    return path


def start(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Start with|^Bring")).click()
    status(page, "Mira is here")
    until(page, "document.querySelector('#video').videoWidth > 16")


def leave(page: Page) -> None:
    page.get_by_role("button", name="Leave").click()
    status(page, "You left the room")


@pytest.mark.parametrize("shape, options, seconds", [("desktop", DESKTOP, 9.3), ("phone", PHONE, 4.0)])
def test_a_moving_mouth_with_sound(
    serve: Callable[..., Any],
    visit: Callable[..., Page],
    tmp_path: Path,
    shape: str,
    options: dict[str, Any],
    seconds: float,
) -> None:
    serving = serve()
    page = visit(serving.url, **options)
    start(page)
    page.evaluate(WATCH)
    until(page, "seen.length >= 50")
    before = page.evaluate("seen")
    rest = [row for row in before if row["level"] < 0.005]
    KEPT.mkdir(parents=True, exist_ok=True)
    picture = KEPT / f"page-{shape}.png"
    speech: list[dict[str, float]] = []
    for _ in range(6):  # a machine that is busy with other things shows few of the frames
        page.set_input_files("#file", beginning(tmp_path / "hello.wav", seconds))
        until(page, "seen.at(-1).level > 0.05")
        page.screenshot(path=picture)
        status(page, rf"^Said, {seconds} s")
        seen = page.evaluate("seen")
        speech = [row for row in seen[len(before) :] if row["level"] > 0.02]
        if len(speech) >= 40:
            break
    decoded = page.evaluate("document.querySelector('#video').getVideoPlaybackQuality().totalVideoFrames")
    still, moving = (statistics.fmean(row["motion"] for row in rows) for rows in (rest, speech))
    loudest = max(row["level"] for row in speech)
    print(f"{shape}: {decoded} frames decoded, mouth {still:.2f} at rest, {moving:.2f} speaking, level {loudest:.2f}")
    print(f"screenshot: {picture}")
    assert {(row["width"], row["height"]) for row in seen} == {(512, 512)}
    assert len(rest) >= 40  # silence is silent
    assert len(speech) >= 40
    assert decoded >= len(seen)
    assert moving > 3 * still
    assert loudest > 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('#frame').getBoundingClientRect().top >= 0")
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    assert session["status"] == "running"
    leave(page)
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    assert session["status"] == "cancelled"
    assert "eyJ" not in serving.said()  # no token


def test_through_the_room_with_interrupts_and_the_microphone(
    serve: Callable[..., Any], visit: Callable[..., Page]
) -> None:
    serving = serve()
    page = visit(serving.url)
    start(page)
    page.get_by_text("Which way the sound goes").click()
    page.get_by_role("radio", name="Through the room").check()
    page.set_input_files("#file", HELLO)
    expect(page.locator("#badge")).to_have_text("Mira speaks", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Interrupt").click()
    status(page, r"^Interrupted after [0-8]\.\d s")
    expect(page.locator("#badge")).to_have_text("Mira is here", timeout=PATIENCE_MS)  # the meter has come to rest
    page.get_by_role("button", name="Microphone").click()
    status(page, "Mira says what you say")
    expect(page.locator("#badge")).to_have_text("Mira speaks", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Microphone").click()
    expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "false")
    status(page, r"^Said, \d+\.\d s")
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    ended = serving.get(f"/v1/sessions/{session['id']}").json()
    assert ended["stats"]["segments"] == 2
    leave(page)


def test_a_guarded_server_a_broken_avatar_and_an_end_with_a_reason(
    serve: Callable[..., Any], visit: Callable[..., Page], tmp_path: Path
) -> None:
    folder = tmp_path / "avatars"
    folder.mkdir()
    (folder / "broken.hvia").write_bytes(b"no archive")
    serving = serve(avatars=folder, env={"VISAVIS_API_KEYS": "secret-key-of-the-page"})
    page = visit(serving.url)
    expect(page.get_by_label("API key")).to_be_visible()
    page.get_by_label("API key").fill("secret-key-of-the-page")
    page.get_by_label("API key").press("Tab")
    expect(page.get_by_role("radio", name="Mira")).to_be_checked()
    page.get_by_text("1 file cannot be used").click()
    expect(page.get_by_text(re.compile("^broken: .*zip"))).to_be_visible()
    start(page)
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert "secret-key-of-the-page" not in kept
    assert "eyJ" not in kept
    key = {"Authorization": "Bearer secret-key-of-the-page"}
    (session,) = serving.get("/v1/sessions", headers=key).json()["sessions"]
    deleted = page.request.delete(f"{serving.url}/v1/sessions/{session['id']}", headers=key)
    assert deleted.status == 200
    status(page, "^Mira left: .*stop_request")
    start(page)  # the same room, again
    leave(page)
    assert "secret-key-of-the-page" not in serving.said()


def test_any_livekit_by_pasted_tokens_and_another_face_meanwhile(
    serve: Callable[..., Any], visit: Callable[..., Page], livekit_server: LiveKitServer, room_name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "avatars"
    folder.mkdir()
    shutil.copy(Path(visavis_store_filesystem.__file__).parent / "avatars" / "mira.hvia", folder / "anna.hvia")
    serving = serve(avatars=folder, env={"LIVEKIT_URL": "", "LIVEKIT_API_KEY": "", "LIVEKIT_API_SECRET": ""})
    page = visit(serving.url)
    expect(page.get_by_role("radio", name="Any other LiveKit")).to_be_checked()
    page.get_by_label("LiveKit URL").fill(livekit_server.url)
    page.get_by_label("Your token").fill(livekit_server.token("somebody", room_name))
    page.get_by_label("The avatar's token").fill(livekit_server.token("a-face", room_name))
    start(page)
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    assert (session["room_name"], session["avatar_identity"]) == (room_name, "a-face")
    assert session["avatar_id"] == "anna"
    page.get_by_role("radio", name="Mira (mira)").check()
    status(page, "took over")
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    assert (session["status"], session["avatar_id"]) == ("running", "mira")
    leave(page)


def test_an_avatar_that_is_there_already(serve: Callable[..., Any], visit: Callable[..., Page], room_name: str) -> None:
    serving = serve()
    started = serving.post("/v1/sessions", json={"avatar_id": "mira", "room_name": room_name})
    assert started.status_code == 201
    page = visit(f"{serving.url}/#room={room_name}")
    page.get_by_role("button", name="Only join").click()
    status(page, "Mira is here")
    page.set_input_files("#file", HELLO)
    expect(page.locator("#badge")).to_have_text("Mira speaks", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Interrupt").click()
    status(page, "^Interrupted after")
    page.get_by_text("Which way the sound goes").click()
    page.get_by_role("radio", name="An agent hears it").check()
    page.get_by_role("button", name="Microphone").click()
    status(page, "An agent in the room hears you")
    page.get_by_role("button", name="Microphone").click()
    leave(page)
    (session,) = serving.get("/v1/sessions").json()["sessions"]
    assert session["status"] == "running"  # it was not this page's to end


def test_without_the_client_it_says_what_is_missing(serve: Callable[..., Any], visit: Callable[..., Page]) -> None:
    serving = serve()
    facts = serving.get("/v1/page").json()
    page = visit("about:blank")
    lacking = {**facts, "client": {**facts["client"], "present": False}}
    page.route("**/v1/page", lambda route: route.fulfill(json=lacking))
    page.goto(serving.url)
    expect(page.get_by_role("alert")).to_contain_text("LiveKit's client is missing")
    expect(page.get_by_role("alert")).to_contain_text(facts["client"]["remedy"])
    expect(page.get_by_role("button", name="Start with Mira")).to_be_disabled()
