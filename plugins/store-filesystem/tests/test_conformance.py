"""The filesystem store does what every store must."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from visavis.testing import PackagingCase, PackagingKit, StoreCase, StoreKit, tiny_avatar
from visavis_store_filesystem import FilesystemStoreOptions
from visavis_store_filesystem.store import FilesystemStore


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_avatar(tmp_path_factory.mktemp("tiny")).read_bytes()


class TestFolder(StoreKit):
    @pytest.fixture(params=[True, False], ids=["builtin", "alone"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path, tiny: bytes) -> StoreCase:
        root = tmp_path / "avatars"
        root.mkdir()

        def put(avatar: str) -> None:
            begun = tmp_path / "begun"
            begun.write_bytes(tiny)
            os.replace(begun, root / f"{avatar}.hvia")

        put("ann")
        put("Bob_2.x")
        (root / "ann-broken.hvia").write_bytes(b"this is no archive")
        (root / "notes.txt").write_text("not an avatar")
        options = FilesystemStoreOptions(root=root, builtin=request.param, poll_s=0.1)
        return StoreCase(
            make=lambda: FilesystemStore(options),
            good=["ann", "Bob_2.x"],
            broken=["ann-broken"],
            put=put,
            remove=lambda avatar: (root / f"{avatar}.hvia").unlink(),
            tells=True,
        )


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-store-filesystem")
