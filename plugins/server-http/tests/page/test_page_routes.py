"""What the page asks of the server: its files, what it needs to know, a viewer's token, stills."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from visavis_server_http.page import files, vendor

pytestmark = pytest.mark.anyio

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
SECRET = "a-secret-of-at-least-32-characters-"


class Elements(HTMLParser):
    """All elements of a document with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files as a build without npm leaves them."""
    shutil.copytree(files.FOLDER, tmp_path / "static", ignore=shutil.ignore_patterns("vendor"))
    monkeypatch.setattr(files, "FOLDER", tmp_path / "static")
    return tmp_path / "static"


# -- files


async def test_every_file_is_served_under_a_strict_policy(serving: Serving) -> None:
    async with serving(host="192.0.2.1", api_keys=["a-key"]) as http:
        names = [name for name in files.FILES if not name.startswith("vendor/")]
        for path in ["/", *(f"/page/{name}" for name in names)]:
            got = await http.get(path)
            assert got.status_code == 200, path
            policy = got.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "*" not in policy
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.text.strip()


async def test_on_the_own_machine_tools_may_evaluate_in_the_page(serving: Serving) -> None:
    async with serving() as http:
        policy = (await http.get("/")).headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy
    assert "default-src 'none'" in policy


async def test_a_browser_that_has_it_is_not_sent_it_again(serving: Serving) -> None:
    async with serving() as http:
        first = await http.get("/page/app.js")
        again = await http.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await http.get("/page/app.js", headers={"If-None-Match": '"other"'})
        assert other.content == first.content


NOWHERE = ["x.js", "../vendor.py", "%2e%2e/vendor.py", "..%2f..%2foptions.py", "vendor/", "vendor/.gitignore", ""]


@pytest.mark.parametrize("name", NOWHERE)
async def test_no_other_file_can_be_had(serving: Serving, name: str) -> None:
    async with serving() as http:
        got = await http.get(f"/page/{name}")
        assert got.status_code == 404
        assert set(got.json()) == {"error", "code", "details"}


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    elements = Elements((files.FOLDER / "index.html").read_text(encoding="utf-8")).found
    assert elements
    for tag, attributes in elements:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes.get("src")
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("/", "#")), address
    for path in files.FOLDER.glob("*.*"):
        if path.suffix in (".js", ".css"):
            assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path


def test_every_field_has_a_label_and_every_name_is_there() -> None:
    elements = Elements((files.FOLDER / "index.html").read_text(encoding="utf-8")).found
    labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    for tag, attributes in elements:
        if tag == "input" and attributes.get("type") != "radio":
            assert attributes["id"] in labelled
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set()
    for path in files.FOLDER.glob("*.js"):
        used |= set(re.findall(r'\$\("([\w-]+)"\)', path.read_text(encoding="utf-8")))
    assert used
    assert used <= set(ids)


def test_all_scripts_are_listed() -> None:
    assert {path.name for path in files.FOLDER.iterdir() if path.is_file()} == {
        name for name in files.FILES if "/" not in name
    }


# -- without the client


async def test_without_the_client_it_says_how_to_get_it(serving: Serving, bare: Path) -> None:
    async with serving() as http:
        facts = (await http.get("/v1/page")).json()
        assert facts["client"] == {"present": False, "version": vendor.VERSION, "remedy": vendor.COMMAND}
        got = await http.get(f"/page/{files.CLIENT}")
        assert (got.status_code, got.json()["code"]) == (404, "PAGE_CLIENT_MISSING")
        assert (await http.get("/")).status_code == 200


async def test_another_client_than_the_pinned_one_is_not_served(serving: Serving, bare: Path) -> None:
    (bare / "vendor").mkdir()
    (bare / "vendor" / vendor.SCRIPT).write_bytes(b"alert(1)")
    async with serving() as http:
        assert (await http.get(f"/page/{files.CLIENT}")).status_code == 404
        assert not (await http.get("/v1/page")).json()["client"]["present"]


# -- what it needs to know


async def test_facts_hold_no_secret_and_need_no_key(serving: Serving) -> None:
    async with serving(api_keys=["key-1"]) as http:
        got = await http.get("/v1/page")
        assert got.status_code == 200
        assert (got.json()["guarded"], got.json()["mints"]) == (True, True)
        assert SECRET not in got.text
        assert "key-1" not in got.text
    async with serving(livekit_api_key=None, livekit_api_secret=None) as http:
        facts = (await http.get("/v1/page")).json()
        assert (facts["guarded"], facts["mints"]) == (False, False)


# -- a viewer


async def test_a_viewer_may_listen_and_speak_in_one_room(serving: Serving) -> None:
    async with serving(livekit_public_url="wss://livekit.example.com") as http:
        got = await http.post("/v1/page/viewers", json={"room_name": "lounge"})
        assert got.status_code == 201
        given = got.json()
        assert given["livekit_url"] == "wss://livekit.example.com"
        claims: dict[str, Any] = jwt.decode(given["token"], SECRET, algorithms=["HS256"])
        assert claims["sub"] == given["identity"]
        video = claims["video"]
        assert (video["room"], video["roomJoin"]) == ("lounge", True)
        assert video["canPublishSources"] == ["microphone"]
        assert not {"roomAdmin", "roomCreate", "roomList", "roomRecord"} & {name for name in video if video[name]}
        other = (await http.post("/v1/page/viewers", json={"room_name": "lounge"})).json()
        assert other["identity"] != given["identity"]


REFUSED: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
    ({"api_keys": ["key-1"]}, {"json": {"room_name": "x"}}, 401, "UNAUTHORIZED"),
    ({}, {"json": {}}, 400, "MISSING_PARAMETER"),
    ({}, {"json": {"room_name": "x", "identity": "boss"}}, 422, "INVALID_PARAMETER"),
    ({}, {"json": {"room_name": "x" * 257}}, 422, "INVALID_PARAMETER"),
    ({}, {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "MALFORMED_JSON"),
    ({}, {"content": b"room_name=x"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ({"livekit_api_secret": None}, {"json": {"room_name": "x"}}, 422, "CANNOT_MINT_TOKENS"),
    ({"livekit_url": None}, {"json": {"room_name": "x"}}, 422, "CANNOT_MINT_TOKENS"),
]


@pytest.mark.parametrize("options, sent, status, code", REFUSED)
async def test_who_gets_no_token(
    serving: Serving, options: dict[str, Any], sent: dict[str, Any], status: int, code: str
) -> None:
    async with serving(**options) as http:
        got = await http.post("/v1/page/viewers", **sent)
        assert (got.status_code, got.json()["code"]) == (status, code)
        assert set(got.json()) == {"error", "code", "details"}


# -- stills


async def test_a_still_comes_from_the_avatars_file(serving: Serving) -> None:
    async with serving() as http:
        for _ in range(2):
            got = await http.get("/v1/page/avatars/mira/preview")
            assert got.status_code == 200
            assert got.headers["content-type"] == "image/jpeg"
            assert got.content.startswith(b"\xff\xd8\xff")
        none = await http.get("/v1/page/avatars/tiny/preview")
        assert (none.status_code, none.content) == (204, b"")


@pytest.mark.parametrize("name, status", [("broken", 422), ("nobody", 404), ("..%2fbroken", 404)])
async def test_no_still_of_what_cannot_be_used(serving: Serving, name: str, status: int) -> None:
    async with serving() as http:
        got = await http.get(f"/v1/page/avatars/{name}/preview")
        assert got.status_code == status
        assert set(got.json()) == {"error", "code", "details"}


async def test_a_still_needs_a_key_like_the_list(serving: Serving) -> None:
    async with serving(api_keys=["key-1"]) as http:
        assert (await http.get("/v1/page/avatars/mira/preview")).status_code == 401
        got = await http.get("/v1/page/avatars/mira/preview", headers={"Authorization": "Bearer key-1"})
        assert got.status_code == 200
