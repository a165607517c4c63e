"""What the README shows is what works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str, holds: str) -> str:
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if holds in b]
    assert len(found) == 1, f"{len(found)} {language} blocks hold {holds!r}"
    return str(found[0])


def test_the_python_example_runs(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block("python", "visavis.speak"))
    result = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 25  # one second of sound, 25 pictures
    assert lines[-1] == "24 (768, 512) (640, 1)"


def test_the_deployment_passes_the_check_and_runs(tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(block("yaml", "use: onnxruntime"))
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    speech = (ROOT / "assets" / "demo" / "hello.wav").read_bytes()
    (tmp_path / "speech.wav").write_bytes(speech)
    for command in ("check", "run"):
        result = subprocess.run(
            [sys.executable, "-m", "visavis", command, "deployment.yaml"],
            cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 50_000


def test_every_page_that_is_linked_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
