"""Where the SDK looks for the API."""

import json
from pathlib import Path

import pytest

from mlops.sdk.endpoint import DEFAULT_URL, find_home, find_token, find_url


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


def test_the_token_goes_where_the_caller_means_it_to() -> None:
    secret = {"MLOPS_TOKEN": " secret\n"}
    away = "https://mlops.example"
    assert find_token(away, away, environ=secret) == "secret"
    assert find_token(away, environ={**secret, "MLOPS_URL": away}) == "secret"
    assert find_token("http://127.0.0.1:8080", environ=secret) is None
    assert find_token("http://127.0.0.1:1", home=".mlops", environ=secret) is None
    assert find_token(away, away, environ={}) is None
    assert find_token("http://localhost:1", "http://localhost:1", environ=secret) == "secret"


def test_the_token_is_not_sent_in_the_clear() -> None:
    url = "http://mlops.example"
    with pytest.raises(ValueError, match="use https"):
        find_token(url, url, environ={"MLOPS_TOKEN": "secret"})
