"""The folder as a store: what is listed, opened and told of changes."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from visavis import workers
from visavis.errors import AvatarError, AvatarInvalid, AvatarNotFound
from visavis.hvia import open_hvia, validate_hvia
from visavis.interfaces.avatar import StoreChange
from visavis.testing.tiny import tiny_avatar
from visavis_store_filesystem import FilesystemStoreOptions, folder, make, visavis_avatar_stores

pytestmark = pytest.mark.anyio

SHIPPED = folder.BUILTIN


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ready-made avatars to copy from."""
    where = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("anna", "ben", "sample")):
        tiny_avatar(where / f"{name}.hvia", seed=seed)
    return where


@pytest.fixture(autouse=True)
def builtin(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One sample avatar, ``sample``, whatever the package ships."""
    where = tmp_path / "builtin"
    where.mkdir()
    shutil.copy(made / "sample.hvia", where)
    monkeypatch.setattr(folder, "BUILTIN", where)
    return where


@pytest.fixture
def root(tmp_path: Path) -> Path:
    where = tmp_path / "avatars"
    where.mkdir()
    return where


def store_of(root: Path | None, **options: Any) -> Any:
    return make(FilesystemStoreOptions(root=root, poll_s=0.05, **options))


async def ids_of(store: Any) -> list[str]:
    return [entry.id for entry in await store.list()]


def test_the_record() -> None:
    (record,) = visavis_avatar_stores()
    assert record.name == "filesystem"
    assert record.config is FilesystemStoreOptions
    for name, field in FilesystemStoreOptions.model_fields.items():
        assert field.description, name


def test_options() -> None:
    with pytest.raises(ValidationError):
        FilesystemStoreOptions(roots="x")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        FilesystemStoreOptions(poll_s=0)


def test_the_entry_point_imports_no_engine() -> None:
    code = (
        "import sys, visavis_store_filesystem; "
        "assert not {'numpy', 'watchfiles', 'onnx', 'av', 'visavis_store_filesystem.store'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_samples_that_ship_are_fine() -> None:
    """Mira is there, small enough to ship, and every sample is without fault."""
    paths = {path.stem: path for path in SHIPPED.glob("*.hvia")}
    assert "mira" in paths
    for path in paths.values():
        assert path.stat().st_size <= 12_000_000
        assert [finding for finding in validate_hvia(path) if finding.level == "error"] == []
    with open_hvia(paths["mira"]) as mira:
        assert (mira.manifest.video.width, mira.manifest.video.height, mira.manifest.video.fps) == (512, 512, 25)
        assert mira.manifest.motion.profile == "arkit-52"
        assert mira.manifest.likeness.of == "nobody"


async def test_only_samples() -> None:
    store = store_of(None)
    (entry,) = await store.list()
    assert (entry.id, entry.name, entry.builtin, entry.problem) == ("sample", "Tiny", True, None)
    assert await ids_of(store_of(None, builtin=False)) == []
    with await store.open("sample") as avatar:
        assert avatar.digest == entry.digest
        assert avatar.size == entry.size


async def test_a_folder(root: Path, made: Path) -> None:
    for name in ("ben", "anna"):
        shutil.copy(made / f"{name}.hvia", root)
    (root / "notes.txt").write_text("x")
    (root / ".half.hvia").write_text("x")
    (root / "more").mkdir()
    store = store_of(root)
    assert await ids_of(store) == ["anna", "ben", "sample"]
    assert [entry.builtin for entry in await store.list()] == [False, False, True]
    assert await ids_of(store_of(root, builtin=False)) == ["anna", "ben"]


async def test_the_folder_goes_before_the_samples(root: Path, made: Path) -> None:
    shutil.copy(made / "anna.hvia", root / "sample.hvia")
    store = store_of(root)
    (entry,) = await store.list()
    assert not entry.builtin
    with await store.open("sample") as avatar:
        assert avatar.path == root / "sample.hvia"


async def test_broken_files_are_listed_with_their_reason(
    root: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(made / "anna.hvia", root)
    (root / "cut.hvia").write_bytes((made / "ben.hvia").read_bytes()[:5000])
    (root / "vendor.hvia").write_bytes(bytes(range(256)) * 40)
    (root / "white space.hvia").write_bytes((made / "ben.hvia").read_bytes())
    (root / "folder.hvia").mkdir()
    (root / "nowhere.hvia").symlink_to(root / "none")
    store = store_of(root)
    with caplog.at_level(logging.WARNING, "visavis.store.filesystem"):
        problems = {entry.id: entry.problem for entry in await store.list()}
        await store.list()
    assert set(problems) == {"anna", "cut", "vendor", "white space", "folder", "sample"}
    assert problems["anna"] is problems["sample"] is None
    assert "cut short" in problems["cut"]
    assert "encrypted avatar of another vendor" in problems["vendor"]
    assert "cannot be an avatar's id" in problems["white space"]
    assert "it is a folder" in problems["folder"]
    assert len(caplog.records) == 4, "each is logged once"
    with pytest.raises(AvatarInvalid, match="cut short"):
        await store.open("cut")
    with await store.open("anna"):
        pass


async def test_no_such_avatar(root: Path, made: Path) -> None:
    for name in ("ben", "anna"):
        shutil.copy(made / f"{name}.hvia", root)
    store = store_of(root)
    with pytest.raises(AvatarNotFound) as caught:
        await store.open("Anne")
    assert "there is no avatar 'Anne'; there are: anna, ben, sample" in str(caught.value)
    assert "did you mean 'anna'?" in str(caught.value)
    with pytest.raises(AvatarNotFound, match="there are none"):
        await store_of(None, builtin=False).open("anna")


@pytest.mark.parametrize(
    "avatar_id",
    [
        "../secret",
        "..",
        ".",
        "",
        "/etc/passwd",
        "more/anna",
        "more\\anna",
        "anna.hvia",
        "anna\0",
        "anna\n",
        "C:anna",
        "~root",
        "x" * 10_000,
        ".half",
        "white space",
    ],
)
async def test_ids_lead_nowhere_else(root: Path, made: Path, avatar_id: str) -> None:
    for place in (root.parent / "secret", root / "anna", root / "more" / "anna", root / ".half", root / "white space"):
        place.parent.mkdir(exist_ok=True)
        shutil.copy(made / "anna.hvia", f"{place}.hvia")
    with pytest.raises(AvatarNotFound) as caught:
        await store_of(root).open(avatar_id)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


async def test_no_folder(tmp_path: Path, root: Path, made: Path) -> None:
    with pytest.raises(AvatarError, match="there is no folder"):
        store_of(tmp_path / "none")
    with pytest.raises(AvatarError, match="there is no folder"):
        store_of(made / "anna.hvia")
    store = store_of(root)
    os.rmdir(root)
    assert await ids_of(store) == ["sample"], "a folder that goes away stops nothing"


async def test_files_are_read_again_only_when_they_change(
    root: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visavis_store_filesystem import store as module

    shutil.copy(made / "anna.hvia", root)
    opened = []
    original = module.open_hvia

    def counted(path: Path) -> Any:
        opened.append(path.stem)
        return original(path)

    monkeypatch.setattr(module, "open_hvia", counted)
    store = store_of(root)
    first = await store.list()
    assert await store.list() == first
    assert sorted(opened) == ["anna", "sample"]
    shutil.copy(made / "ben.hvia", root / "anna.hvia")
    assert (await store.list())[0].digest != first[0].digest
    assert sorted(opened) == ["anna", "anna", "sample"]


async def test_an_open_avatar_survives_its_removal(root: Path, made: Path) -> None:
    shutil.copy(made / "anna.hvia", root)
    store = store_of(root)
    with await store.open("anna") as avatar:
        (root / "anna.hvia").unlink()
        assert avatar.read("clips/idle.mp4")
        with pytest.raises(AvatarNotFound):
            await store.open("anna")


@pytest.fixture(params=["notices", "looking"])
def how(request: pytest.FixtureRequest) -> Any:
    """With the system's notices in a thread, and by looking alone."""
    if request.param == "looking":
        with workers.inline():
            yield
    else:
        token = workers._inline.set(False)
        yield
        workers._inline.reset(token)


async def next_of(changes: AsyncIterator[StoreChange]) -> StoreChange:
    with anyio.fail_after(10):
        return await anext(changes)


async def test_changes(root: Path, made: Path, how: None) -> None:
    shutil.copy(made / "anna.hvia", root)
    store = store_of(root)
    send, receive = anyio.create_memory_object_stream[StoreChange](100)

    async def read() -> None:
        async with aclosing(store.changes()) as changes:
            async for change in changes:
                send.send_nowait(change)

    async def until(*wanted: StoreChange) -> None:
        missing = set(wanted)
        with anyio.fail_after(10):
            while missing:
                missing.discard(await receive.receive())

    async with anyio.create_task_group() as tasks, send, receive:
        tasks.start_soon(read)
        await anyio.sleep(0.5)
        with pytest.raises(anyio.WouldBlock):
            receive.receive_nowait()  # what is there already is no change
        shutil.copy(made / "ben.hvia", root)
        await until(StoreChange("added", "ben"))
        shutil.copy(made / "anna.hvia", root / "sample.hvia")
        await until(StoreChange("replaced", "sample"))
        shutil.copy(made / "ben.hvia", root / ".part")
        os.replace(root / ".part", root / "anna.hvia")
        os.unlink(root / "ben.hvia")
        await until(StoreChange("replaced", "anna"), StoreChange("removed", "ben"))
        os.unlink(root / "sample.hvia")
        await until(StoreChange("replaced", "sample"))
        await store.aclose()
        await store.aclose()


async def test_a_file_is_told_of_once_it_is_whole(root: Path, made: Path, how: None) -> None:
    data = (made / "anna.hvia").read_bytes()
    store = store_of(root)
    async with aclosing(store.changes()) as changes, anyio.create_task_group() as tasks:

        async def write() -> None:
            await anyio.sleep(0.3)
            with (root / "anna.hvia").open("wb") as file:
                for at in range(0, len(data), 8000):
                    file.write(data[at : at + 8000])
                    file.flush()
                    await anyio.sleep(0.05)

        tasks.start_soon(write)
        assert await next_of(changes) == StoreChange("added", "anna")
        with await store.open("anna"):
            pass
        await store.aclose()


async def test_changes_can_be_cancelled(root: Path, how: None) -> None:
    store = store_of(root)
    with anyio.move_on_after(0.3) as scope:
        async with aclosing(store.changes()) as changes:
            async for _ in changes:
                pass
    assert scope.cancelled_caught


async def test_samples_alone_never_change(how: None) -> None:
    store = store_of(None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.aclose)
        with anyio.fail_after(5):
            assert [change async for change in store.changes()] == []


async def test_without_watchfiles(root: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    monkeypatch.setattr(workers, "is_inline", lambda: False)
    store = store_of(root)
    async with aclosing(store.changes()) as changes, anyio.create_task_group() as tasks:

        async def add() -> None:
            await anyio.sleep(0.3)
            shutil.copy(made / "anna.hvia", root)

        tasks.start_soon(add)
        assert await next_of(changes) == StoreChange("added", "anna")


async def test_the_folder_goes_and_comes_back(root: Path, made: Path, how: None) -> None:
    store = store_of(root)
    async with aclosing(store.changes()) as changes, anyio.create_task_group() as tasks:

        async def swap() -> None:
            await anyio.sleep(0.3)
            os.rmdir(root)
            await anyio.sleep(0.3)
            os.mkdir(root)
            shutil.copy(made / "anna.hvia", root)

        tasks.start_soon(swap)
        assert await next_of(changes) == StoreChange("added", "anna")
