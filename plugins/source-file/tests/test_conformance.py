"""The file source does what every source must."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from visavis.testing import PackagingCase, PackagingKit, SourceCase, SourceKit
from visavis_source_file import FileSourceOptions
from visavis_source_file.source import FileSource


def wav(path: Path, channels: int, rate: int = 22_050) -> np.ndarray:
    """Write 1.3 s of 16 bit noise; gives it as float ``[samples, channels]``."""
    sound = np.random.default_rng(1).integers(-20_000, 20_000, (round(1.3 * rate), channels), np.int16)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=rate, layout="mono" if channels == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout=stream.layout.name)
        frame.sample_rate = rate
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return sound.astype(np.float32) / 32_768


class TestWav(SourceKit):
    @pytest.fixture(params=[1, 2])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> SourceCase:
        says = wav(tmp_path / "speech.wav", request.param)
        return SourceCase(
            make=lambda: FileSource(FileSourceOptions(path=tmp_path / "speech.wav")),
            says=says,
            wrong=lambda: FileSource(FileSourceOptions(path=tmp_path / "missing.wav")),
        )


class TestStrict(SourceKit):
    @pytest.fixture
    def source(self, tmp_path: Path) -> SourceCase:
        says = wav(tmp_path / "speech.wav", 1)
        whole = (tmp_path / "speech.wav").read_bytes()
        (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
        return SourceCase(
            make=lambda: FileSource(FileSourceOptions(path=tmp_path / "speech.wav", strict=True)),
            says=says,
            wrong=lambda: FileSource(FileSourceOptions(path=tmp_path / "cut.wav", strict=True)),
        )


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-source-file")
