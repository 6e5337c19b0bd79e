"""A workspace with a dataset version, ready for runs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mlops.api import Api
from tests.conftest import ApiServer
from tests.integration.plain import ITEMS, SQUARE, plain_collection, plain_item


def dataset_item(digest: str = "a" * 64, dataset: str = "fields") -> dict[str, Any]:
    """A dataset version as a client posts it."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": SQUARE,
        "properties": {
            "datetime": None,
            "start_datetime": "2016-01-01T00:00:00Z",
            "end_datetime": "2017-01-01T00:00:00Z",
            "mlops:dataset": dataset,
            "mlops:samples": 3,
            "mlops:manifest_digest": digest,
        },
        "links": [],
        "assets": {
            "manifest": {
                "href": f"../../../assets/alps/training-data/blobs/{digest[:2]}/{digest}",
                "type": "application/vnd.apache.parquet",
                "file:size": 10,
                "file:checksum": "1220" + digest,
            }
        },
    }


def run_item(**properties: Any) -> dict[str, Any]:
    """A training run as a client posts it."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": None,
        "properties": {
            "mlops:model": "landcover",
            "mlops:task": "classification",
            "mlops:recipe": "pixel-timeseries",
            "mlops:hyperparameters": {"epochs": 2},
            **properties,
        },
        "links": [
            {"rel": "training-data", "href": "../../alps-training-data/items/fields-v1"},
        ],
    }


@pytest.fixture
def workspace(api_server: ApiServer) -> Api:
    """A client of an API that has the workspace `alps` with the dataset `fields` v1."""
    user = api_server.user()
    user.request("POST", "/workspaces", json={"id": "alps"})
    user.create_item("alps-training-data", dataset_item())
    return user


@pytest.fixture
def http(workspace: Api) -> Iterator[httpx.Client]:
    """Bare HTTP to the API that has the workspace."""
    with httpx.Client(base_url=workspace.url) as client:
        yield client


@pytest.fixture
def imagery(api_server: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API that has the collection `imagery` with the item `kept`."""
    prefer = {"Prefer": "return=representation"}
    with httpx.Client(base_url=api_server.url, timeout=60, headers=prefer) as client:
        assert client.post("/collections", json=plain_collection()).status_code == 201
        assert client.post(ITEMS, json=plain_item("kept")).status_code == 201
        yield client


@pytest.fixture
def telling(api_server: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API whose collection `imagery` asks for events."""
    prefer = {"Prefer": "return=representation"}
    with httpx.Client(base_url=api_server.url, timeout=60, headers=prefer) as client:
        collection = {**plain_collection(), "mlops:events": True}
        assert client.post("/collections", json=collection).status_code == 201
        yield client
