"""The files of a deployment, as far as they can be tried without Docker: schema, agreement, commands."""

from __future__ import annotations

import configparser
import contextlib
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from visavis.testing.livekit import server as livekit
from visavis.testing.livekit.fixtures import missing
from visavis_server_http.page import vendor

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
COMPOSE, GPU, DOCKERFILE = HERE / "compose.yaml", HERE / "compose.gpu.yaml", HERE / "Dockerfile"
SETTINGS = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_PUBLIC_URL": "wss://livekit.example.com",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters-",
    "VISAVIS_API_KEYS": "a-key-of-clients",
}


def services(path: Path = COMPOSE) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# -- compose


def schema(*paths: Path) -> subprocess.CompletedProcess[str]:
    ask = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *map(str, paths)]
    return subprocess.run(ask, capture_output=True, text=True, check=False, timeout=120)


def test_compose_files_pass_the_specification() -> None:
    ran = schema(COMPOSE, GPU)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "breach", ["services: {visavis: {imagee: x}}", "services: {visavis: {ports: 80}}", "service: {}", "services: []"]
)
def test_the_specification_catches_a_breach(tmp_path: Path, breach: str) -> None:
    (tmp_path / "compose.yaml").write_text(breach, encoding="utf-8")
    assert schema(tmp_path / "compose.yaml").returncode != 0


def test_every_variable_is_explained() -> None:
    explained = set(re.findall(r"^(\w+)=", (HERE / ".env.example").read_text(encoding="utf-8"), re.M))
    text = COMPOSE.read_text(encoding="utf-8") + GPU.read_text(encoding="utf-8")
    used = {name for name, _ in re.findall(r"\$\{(\w+)([^}]*)\}", text)}
    optional = {name for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text) if rest.startswith((":-", "-"))}
    assert used >= explained
    assert used - optional <= explained
    # What has no default is asked for by name, before anything starts.
    asked = {name for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text) if rest.startswith(":?")}
    assert used - optional <= asked


def test_services_agree_with_the_files_beside_them() -> None:
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.M))
    for name, service in document["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0].replace("${LIVEKIT_CONFIG", "livekit.yaml")
            if source.startswith("./"):
                assert (HERE / source).exists(), f"{name}: {source}"
            else:
                assert source in document["volumes"]
        for other, how in service.get("depends_on", {}).items():
            needed = document["services"][other]
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in needed or "build" in needed
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (HERE / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKERFILE
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True


def test_the_server_in_compose() -> None:
    server = services()["visavis"]
    assert "./assets/avatars:/app/assets/avatars:ro" in server["volumes"]
    assert "ports" not in server  # Caddy alone is reached from outside
    drains = yaml.safe_load((HERE / "visavis.yaml").read_text(encoding="utf-8"))["server"]["drain_timeout_s"]
    assert seconds(server["stop_grace_period"]) > drains
    assert services()["livekit"]["image"] == f"livekit/livekit-server:{livekit.VERSION}"
    (device,) = services(GPU)["visavis"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert "gpu" in device["capabilities"]
    assert services(GPU)["visavis"]["build"]["target"] == "cuda"


# -- the image


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    rows = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(row.split()[0], row.partition(" ")[2].strip()) for row in rows]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    rules = [
        line
        for line in (HERE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert copied
    for source in (source for sources in copied for source in sources):
        assert list(ROOT.glob(source)), source
        wanted = [rule[1:] for rule in rules if rule.startswith("!")]
        assert any(source == rule or source.startswith(f"{rule}/") for rule in wanted), source
        assert not fnmatch.fnmatch(source, "*.env*")


def test_the_stages_of_the_image() -> None:
    stages: dict[str, list[tuple[str, str]]] = {}
    bases: dict[str, str] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            bases[name], stages[name] = base, []
        elif name:
            stages[name].append((word, rest))
            if "--from=" in rest:
                assert rest.partition("--from=")[2].split()[0] in stages
            if "from=wheels" in rest:
                assert "wheels" in stages
    assert {"cpu", "cuda", "agent-1", "agent-2"} <= set(stages)
    for target in ("cpu", "cuda", "agent-1", "agent-2"):
        users = [rest for word, rest in stages[target] if word == "USER"]
        assert users[-1] == "visavis"  # never root
        assert not [rest for word, rest in stages[target] if word in ("ENV", "ARG") and "SECRET" in rest]
    assert bases["cuda"] == "cpu"
    assert f"ARG LIVEKIT_CLIENT={vendor.VERSION}" in DOCKERFILE.read_text(encoding="utf-8")


def test_the_pip_commands_of_the_image(tmp_path: Path) -> None:
    """The same commands, but for what they would fetch: our wheels, the constraints, and names that resolve."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    runs = [rest for word, rest in instructions() if word == "RUN"]
    (sed,) = (run for run in runs if run.startswith("sed"))
    script = sed.replace("/constraints.txt", str(tmp_path / "constraints.txt"))
    subprocess.run(["sh", "-c", script], cwd=ROOT, check=True, timeout=60)
    rows = (tmp_path / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [row for row in rows if row.strip() and not row.lstrip().startswith("#")]
    assert pinned
    assert [row for row in pinned if not re.fullmatch(r"[\w.-]+==[\w.+]+( ;.*)?", row.strip())] == []
    names = {row.partition("==")[0].lower() for row in pinned}
    folders = [ROOT / "core", *sorted((ROOT / "plugins").iterdir())]
    assert "pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./core ./plugins/*" in runs
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheels")]
    trees = [tmp_path / folder.name for folder in folders]
    for folder, tree in zip(folders, trees, strict=True):
        shutil.copytree(folder, tree, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    subprocess.run([*build, *map(str, trees)], check=True, timeout=240)
    installs = [run for run in runs if "pip install" in run]
    assert len(installs) == 4
    for run in installs:
        words = run.partition("pip install")[2].split("&&")[0].split()
        ours = [word for word in words if word.startswith("./")]
        for pattern in ours:
            assert len(list((tmp_path / "wheels").glob(pattern))) == 1, pattern
        for name in (word for word in words if re.fullmatch(r"[a-z][a-z-]+", word)):
            assert name in names, name
        if ours:
            wheels = [str(next((tmp_path / "wheels").glob(pattern))) for pattern in ours]
            dry = [*pip, "install", "--quiet", "--dry-run", "--no-index", "--no-deps", "--ignore-installed"]
            subprocess.run([*dry, "-c", str(tmp_path / "constraints.txt"), *wheels], check=True, timeout=120)
    assert "onnxruntime" in names  # whose version the CUDA image takes over


# -- what runs in it


def answers(url: str, process: subprocess.Popen[bytes]) -> bytes:
    for _ in range(600):
        assert process.poll() is None
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_server_runs_as_in_the_image(tmp_path: Path) -> None:
    """Same folder layout, same file, same command; but on loopback. SIGTERM ends it well."""
    shutil.copy(HERE / "visavis.yaml", tmp_path)
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    assert ("CMD", '["visavis", "serve", "visavis.yaml"]') in instructions()
    port = livekit.free_port()
    command = [sys.executable, "-m", "visavis", "serve", "visavis.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **SETTINGS}, stdout=log, stderr=log)
    try:
        assert b'"healthy"' in answers(f"http://127.0.0.1:{port}/health", process)
        assert b'"guarded":true' in answers(f"http://127.0.0.1:{port}/v1/page", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_server_does_not_start_without_keys(tmp_path: Path) -> None:
    without = {**os.environ, **SETTINGS, "VISAVIS_API_KEYS": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "visavis", "serve", str(HERE / "visavis.yaml"), "--port", "0"],
        env=without,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
    assert "api_keys" in ran.stderr


@pytest.mark.parametrize("name", ["livekit.yaml", "livekit.local.yaml"])
def test_livekit_takes_its_file(tmp_path: Path, name: str) -> None:
    """The real server, which refuses names it does not know; on loopback, asking nobody for its address."""
    try:
        executable = livekit.executable()
    except livekit.LiveKitMissing as error:
        missing(str(error))
    settings = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    assert (settings["port"], settings["rtc"]["udp_port"], settings["rtc"]["tcp_port"]) == (7880, 7882, 7881)
    port, udp = livekit.free_port(), livekit.free_port()
    near = {"node_ip": "127.0.0.1", "interfaces": {"includes": ["lo"]}, "enable_loopback_candidate": True}
    settings["rtc"] |= {**near, "udp_port": udp, "tcp_port": 0, "use_external_ip": False}
    settings |= {"port": port, "bind_addresses": ["127.0.0.1"]}
    (tmp_path / name).write_text(yaml.safe_dump(settings), encoding="utf-8")
    keys = {"LIVEKIT_KEYS": f"{SETTINGS['LIVEKIT_API_KEY']}: {SETTINGS['LIVEKIT_API_SECRET']}"}
    with (tmp_path / "log").open("wb") as log:
        command = [str(executable), "--config", str(tmp_path / name)]
        process = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
    try:
        assert answers(f"http://127.0.0.1:{port}/", process) == b"OK"
    finally:
        process.kill()
        process.wait()


def test_the_unit_of_systemd(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(HERE / "visavis.service", encoding="utf-8")
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > 30
    assert service["NoNewPrivileges"] == "yes"
    assert service["ExecStart"].split()[1:3] == ["serve", "/etc/visavis/visavis.yaml"]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on PATH")
    text = (HERE / "visavis.service").read_text(encoding="utf-8").replace("/opt/visavis/bin/visavis", sys.executable)
    (tmp_path / "visavis.service").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [analyze, "verify", str(tmp_path / "visavis.service")], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in ran.stderr.splitlines() if "visavis.service" in line]
    assert ours == []
