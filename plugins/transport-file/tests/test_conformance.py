"""The file transport does what every transport must."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from visavis.component import ComponentConfig
from visavis.interfaces.transport import Pacing
from visavis.testing import PackagingCase, PackagingKit, TransportCase, TransportKit, read_film
from visavis_transport_file import FileSessionOptions, FileTransportOptions
from visavis_transport_file.transport import FileTransport


def path_of(options: ComponentConfig) -> Path:
    assert isinstance(options, FileSessionOptions)
    return options.path


def case_of(folder: Path, pacing: Pacing, suffix: str) -> TransportCase:
    numbers = count()
    return TransportCase(
        make=lambda: FileTransport(FileTransportOptions(pacing=pacing)),
        options=lambda: FileSessionOptions(path=folder / f"{next(numbers)}{suffix}"),
        readback=lambda session, options: read_film(path_of(options)),
        exact=False,
        leftovers=lambda options: sorted(path for path in folder.iterdir() if path_of(options).stem in path.name),
        wrong=lambda: FileSessionOptions(path=folder / "no such folder" / "a.mp4"),
    )


class TestMp4(TransportKit):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> TransportCase:
        return case_of(tmp_path, Pacing.ASAP, ".mp4")


class TestMkv(TransportKit):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> TransportCase:
        return case_of(tmp_path, Pacing.ASAP, ".mkv")


class TestRealtime(TransportKit):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> TransportCase:
        return case_of(tmp_path, Pacing.REALTIME, ".mp4")


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-transport-file")
