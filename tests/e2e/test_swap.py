"""Parts are swapped by installing a package and changing a word of YAML; a broken one hurts nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from visavis.testing import tiny_avatar

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two example plugins, installed by pip into a folder of their own."""
    folder = tmp_path_factory.mktemp("site")
    examples = sorted(str(p.parent) for p in (ROOT / "examples").glob("*/pyproject.toml"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), *examples], check=True, timeout=300)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with an avatar named tiny."""
    (tmp_path / "avatars").mkdir()
    tiny_avatar(tmp_path / "avatars" / "tiny.hvia")
    return tmp_path


Ran = subprocess.CompletedProcess[bytes]


def visavis(*arguments: str, cwd: Path, site: Path | None = None, stdin: bytes = b"") -> Ran:
    env = os.environ | {"PYTHONPATH": str(site or "")}
    command = [sys.executable, "-m", "visavis", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=300, check=False)


def deployment(home: Path, *, renderer: str = "onnxruntime", source: str = "file", out: str = "out.mp4") -> Path:
    heard = "source: {path: speech.wav}" if source == "file" else ""
    path = home / f"{renderer}-{source}.yaml"
    path.write_text(
        "store: {use: filesystem, root: avatars}\n"
        f"source: {{use: {source}}}\n"
        f"renderer: {{use: {renderer}}}\n"
        "transport: {use: file}\n"
        f"session:\n  avatar: tiny\n  {heard}\n  transport: {{path: {out}}}\n"
    )
    return path


def babble(seconds: float) -> np.ndarray:
    """Something that opens and shuts a mouth: noise with a syllable's rhythm, int16."""
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(0, 0.2, len(t))
    return (noise * np.maximum(0, np.sin(2 * np.pi * 2.5 * t)) * 20_000).clip(-32_768, 32_767).astype(np.int16)


def wav(path: Path, pcm: np.ndarray) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([f.to_ndarray(format="gray") for f in file.decode(video=0)]).astype(float)


def ran(result: Ran) -> None:
    assert result.returncode == 0, result.stderr.decode()


def test_one_word_of_yaml_swaps_the_renderer(home: Path, site: Path) -> None:
    wav(home / "speech.wav", babble(2.0))
    ran(visavis("run", str(deployment(home, out="ort.mp4")), cwd=home, site=site))
    ran(visavis("run", str(deployment(home, renderer="reference", out="reference.mp4")), cwd=home, site=site))
    ours, theirs = pictures(home / "ort.mp4"), pictures(home / "reference.mp4")
    assert ours.shape == theirs.shape == (20, 128, 128)
    # One level between the renderers' pictures; the encoder makes a little more of it.
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.abs(ours[3] - ours[6]).max() > 20  # it does move


def test_without_the_package_the_word_is_refused_in_words_that_help(home: Path) -> None:
    wav(home / "speech.wav", babble(0.5))
    result = visavis("run", str(deployment(home, renderer="refrigerator")), cwd=home)
    assert result.returncode == 2
    said = result.stderr.decode()
    assert "refrigerator" in said
    assert "onnxruntime" in said  # what is installed
    assert "Traceback" not in said


def test_a_third_party_source_speaks(home: Path, site: Path) -> None:
    listed = json.loads(visavis("plugins", "--json", cwd=home, site=site).stdout)
    (source,) = [p["name"] for p in listed["plugins"] if "example-source" in str(p)]
    path = deployment(home, source=source)
    ran(visavis("run", str(path), cwd=home, site=site, stdin=babble(2.0).tobytes()))
    assert len(pictures(home / "out.mp4")) > 0


def test_a_renderer_that_cannot_be_imported_is_listed_with_its_reason(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    info = broken / "visavis_renderer_broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: visavis-renderer-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[visavis]\nbroken = visavis_renderer_broken\n")
    (broken / "visavis_renderer_broken.py").write_text("raise ImportError('libcuda.so.1 is not on this machine')\n")

    listed = visavis("plugins", cwd=home, site=broken)
    assert listed.returncode == 0
    assert b"visavis-renderer-broken" in listed.stdout + listed.stderr
    assert b"libcuda.so.1 is not on this machine" in listed.stdout + listed.stderr

    wav(home / "speech.wav", babble(0.5))
    ran(visavis("run", str(deployment(home)), cwd=home, site=broken))

    refused = visavis("run", str(deployment(home, renderer="broken")), cwd=home, site=broken)
    assert refused.returncode == 2
    assert b"libcuda.so.1 is not on this machine" in refused.stderr
