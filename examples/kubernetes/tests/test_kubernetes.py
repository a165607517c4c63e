"""The manifests, as far as they can be tried without a cluster: Kubernetes' own schemas, and that they agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from visavis.config import load_deployment
from visavis.config.deployment import SERVING_USE
from visavis.registry import Registry
from visavis_launcher_livekit.host import SENTENCE_SECONDS
from visavis_launcher_livekit.options import DispatchOptions

HERE = Path(__file__).resolve().parents[1]
FILES = sorted(HERE.glob("*.yaml"))
VERSIONS = ("1.31", "1.37")
KNOWN = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters-",
    "VISAVIS_API_KEYS": "a-key-of-clients",
}


def documents() -> Iterator[dict[str, Any]]:
    for path in FILES:
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def of(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in KNOWN.items():
        monkeypatch.setenv(name, value)
    return KNOWN


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_manifests_pass_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_catch_a_slip() -> None:
    wrong = of("Deployment", "visavis-worker")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", ["visavis-server", "visavis-worker"])
def test_a_deployment_runs_what_its_config_holds(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    data = of("ConfigMap", "visavis")["data"]
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    (path,) = [word for word in container(name)["command"] if word.startswith("/etc/visavis/")]
    told = tmp_path / Path(path).name
    told.write_text(data[told.name], encoding="utf-8")
    deployment = load_deployment(told, Registry.discover(), defaults=SERVING_USE)
    assert deployment.launcher is not None
    options = deployment.launcher.config
    assert isinstance(options, DispatchOptions)
    pod = of("Deployment", name)["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
    if name == "visavis-worker":
        assert ports == {"health": options.health_port}
        assert pod["terminationGracePeriodSeconds"] >= options.drain_timeout_s + SENTENCE_SECONDS + 15
    else:
        assert deployment.server is not None
        assert ports == {"http": deployment.server.config.port}  # type: ignore[attr-defined]
        assert pod["terminationGracePeriodSeconds"] > deployment.server.config.drain_timeout_s  # type: ignore[attr-defined]


def test_manifests_agree_with_each_other_and_with_the_image() -> None:
    for each in documents():
        spec = each.get("spec", {})
        if each["kind"] == "Deployment":
            assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    labels = of("Deployment", "visavis-server")["spec"]["template"]["metadata"]["labels"]
    assert of("Service", "visavis-server")["spec"]["selector"].items() <= labels.items()
    assert of("HorizontalPodAutoscaler", "visavis-worker")["spec"]["scaleTargetRef"]["name"] == "visavis-worker"
    image = (HERE.parent / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert "--uid 10001" in image
    assert "visavis_launcher_livekit-*.whl" in image
    assert container("visavis-worker")["resources"]["requests"]["cpu"].isdigit()


def test_the_readme_says_how_it_is_called() -> None:
    text = (HERE / "README.md").read_text(encoding="utf-8")
    assert all(path.name in text for path in FILES)
    secrets = {
        source["secretRef"]["name"]
        for name in ("visavis-server", "visavis-worker")
        for source in container(name)["envFrom"]
    }
    assert all(f"create secret generic {name}" in text for name in secrets)
