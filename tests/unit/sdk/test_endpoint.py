"""Where the SDK looks for the API."""

import json
from pathlib import Path

import pytest

from mlops.sdk.endpoint import DEFAULT_URL, find_home, find_url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "endpoint.json").write_text(json.dumps({"url": "http://127.0.0.1:4711"}))
    return tmp_path


def test_order_of_places(home: Path, tmp_path: Path) -> None:
    environ = {"MLOPS_URL": "http://env.example/", "MLOPS_HOME": str(home)}
    assert find_url("http://given.example/", home, environ) == "http://given.example"
    assert find_url(None, None, environ) == "http://env.example"
    assert find_url(None, home, environ) == "http://127.0.0.1:4711"
    assert find_url(None, None, {"MLOPS_HOME": str(home)}) == "http://127.0.0.1:4711"
    assert find_url(None, tmp_path / "none", {}) == DEFAULT_URL


def test_home() -> None:
    assert find_home(None, {}) == Path(".mlops")
    assert find_home(None, {"MLOPS_HOME": "/srv/mlops"}) == Path("/srv/mlops")
    assert find_home("here", {"MLOPS_HOME": "/srv/mlops"}) == Path("here")


@pytest.mark.parametrize("content", ["", "[]", '{"port": 1}'])
def test_broken_endpoint_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoint.json").write_text(content)
    with pytest.raises(ValueError, match="mlops up --home"):
        find_url(None, tmp_path, {})
