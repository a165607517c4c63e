"""``/v1/avatars``: what lies in the folder now, broken files with their reason; and the folder is watched."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def ids(bench: Any) -> dict[str, bool]:
    listed = (await bench.http.get("/v1/avatars")).json()["avatars"]
    return {one["id"]: one["usable"] for one in listed}


async def test_what_is_there(serving: Any) -> None:
    async with serving() as bench:
        listed = (await bench.http.get("/v1/avatars")).json()["avatars"]
        assert [one["id"] for one in listed] == ["anna", "ben"]
        assert listed[0] == (await bench.http.get("/v1/avatars/anna")).json()
        assert listed[0]["problem"] is None
        assert len(listed[0]["digest"]) == 64


async def test_one_broken_file_changes_nothing_for_the_others(serving: Any) -> None:
    async with serving() as bench:
        (bench.avatars / "broken.hvia").write_bytes(b"no zip at all")
        (bench.avatars / "half.hvia").write_bytes((bench.avatars / "anna.hvia").read_bytes()[:500])
        listed = {one["id"]: one for one in (await bench.http.get("/v1/avatars")).json()["avatars"]}
        assert {key for key, one in listed.items() if one["usable"]} == {"anna", "ben"}
        assert all(listed[name]["problem"] for name in ("broken", "half"))
        refused = await bench.http.post("/v1/sessions", json=bench.wanted(avatar_id="broken"))
        assert bench.told(refused) == (422, "AVATAR_INVALID")
        assert str(bench.avatars) not in refused.text
        assert (await bench.start())["status"] == "running"


async def test_new_replaced_and_removed_files_are_noticed(serving: Any) -> None:
    async with serving() as bench:
        missing = await bench.http.post("/v1/sessions", json=bench.wanted(avatar_id="cleo"))
        assert bench.told(missing) == (404, "AVATAR_NOT_FOUND")
        content = (bench.avatars / "ben.hvia").read_bytes()
        (bench.avatars / ".cleo").write_bytes(content)
        (bench.avatars / ".cleo").rename(bench.avatars / "cleo.hvia")
        assert (await ids(bench))["cleo"]
        running = await bench.start(avatar_id="cleo")

        (bench.avatars / "cleo.hvia").unlink()
        assert "cleo" not in await ids(bench)
        gone = await bench.http.post("/v1/sessions", json=bench.wanted(avatar_id="cleo"))
        assert bench.told(gone) == (404, "AVATAR_NOT_FOUND")
        # Whoever shows it goes on.
        assert (await bench.http.get(f"/v1/sessions/{running['id']}")).json()["status"] == "running"

        (bench.avatars / ".anna").write_bytes(content)
        (bench.avatars / ".anna").rename(bench.avatars / "anna.hvia")
        digests = {one["id"]: one["digest"] for one in (await bench.http.get("/v1/avatars")).json()["avatars"]}
        assert digests["anna"] == digests["ben"]


async def test_the_folder_is_watched(serving: Any) -> None:
    async with serving() as bench:
        content, file = (bench.avatars / "ben.hvia").read_bytes(), bench.avatars / "cleo.hvia"

        async def noticed(kind: str) -> None:
            with anyio.fail_after(30):
                while f'kind="{kind}"' not in (await bench.http.get("/metrics")).text:  # noqa: ASYNC110
                    await anyio.sleep(0.05)

        await anyio.sleep(0.5)  # the first look tells of nothing
        file.write_bytes(content)
        await noticed("added")
        (bench.avatars / ".new").write_bytes((bench.avatars / "anna.hvia").read_bytes())
        (bench.avatars / ".new").rename(file)
        await noticed("replaced")
        file.unlink()
        await noticed("removed")


async def test_avatars_are_loaded_ahead(serving: Any) -> None:
    async with serving(load_ahead=2) as bench:
        with anyio.fail_after(20):
            while (await bench.http.get("/ready")).status_code != 200:
                assert (await bench.http.get("/ready")).json()["code"] in ("NOT_READY", None)
                await anyio.sleep(0.01)
        assert len(bench.launcher.supervisor._avatars) == 2


async def test_a_store_that_cannot_watch_stops_nobody(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(store: Any) -> Any:
        if store is not None:
            raise OSError("no watches are left")
        yield

    monkeypatch.setattr("visavis_store_filesystem.store.FilesystemStore.changes", failing)
    async with serving() as bench:
        assert await ids(bench) == {"anna": True, "ben": True}
        assert (await bench.start())["status"] == "running"


async def test_an_avatar_that_cannot_be_loaded_ahead_stops_nobody(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(launcher: Any, avatar: str, frames: int) -> list[float]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("visavis.supervisor.LocalLauncher.rehearse", failing)
    async with serving(load_ahead=2) as bench:
        assert (await bench.start())["status"] == "running"
        assert (await bench.http.get("/ready")).status_code == 200
