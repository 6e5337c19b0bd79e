"""The compose file of one server: what it names is there."""

import re
from typing import Any

import yaml

from infra.local.service import LocalSettings
from stac_api.settings import Settings
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "infra" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]


def _example() -> dict[str, str]:
    lines = (FOLDER / "example.env").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def test_every_variable_is_in_the_example_and_none_is_left_over() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    assert used == set(_example())


def test_no_secret_has_a_value_in_the_repository() -> None:
    secret = re.compile("PASSWORD|SECRET|TOKEN|HASH")
    assert [name for name, value in _example().items() if secret.search(name) and value] == []
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if secret.search(name):
                assert str(value).startswith("${"), name


def test_the_settings_that_it_sets_exist() -> None:
    known = {
        f"MLOPS_{name.upper()}" for kind in (LocalSettings, Settings) for name in kind.model_fields
    }
    environment = SERVICES["mlops"]["environment"]
    assert {name for name in environment if name.startswith("MLOPS_")} <= known


def test_only_the_proxy_can_be_reached_and_the_api_only_through_it() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy"}
    assert SERVICES["mlops"]["network_mode"] == "service:proxy"
    proxied = (FOLDER / "Caddyfile").read_text()
    assert set(re.findall(r"\{\$(\w+)\}", proxied)) == set(SERVICES["proxy"]["environment"])
    upstreams = re.findall(r"reverse_proxy (\S+):(\d+)", proxied)
    assert upstreams == [("127.0.0.1", "8080"), ("storage", "7070")]
    command = (REPOSITORY / "infra" / "images" / "server.Dockerfile").read_text()
    assert '"--port", "8080"' in command


def test_what_it_depends_on_and_keeps_is_declared() -> None:
    volumes = set(yaml.safe_load(TEXT)["volumes"])
    kept = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert kept == volumes
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= set(SERVICES)
    gpu = yaml.safe_load((FOLDER / "gpu.yaml").read_text())["services"]
    assert set(gpu) <= set(SERVICES)
