"""A collection that every check of the validators finds something in, and no way to the outside."""

import ipaddress
import socket
from typing import Any

import httpx
import pytest
import stac_validator.utilities

from tests.conftest import ApiServer
from tests.stac_schemas import published

COLLECTION = "conformance"
"""Filled by :func:`filled_api`."""
TRANSACTIONS = "conformance-transactions"
"""Written to by the validator itself."""


def square(west: float, south: float, size: float = 0.5) -> dict[str, Any]:
    east, north = west + size, south + size
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def collection(identity: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "title": f"Collection {identity}",
        "description": "Scenes to search in.",
        "license": "CC-BY-4.0",
        "keywords": ["scenes"],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2021-01-01T00:00:00Z", None]]},
        },
        "links": [{"rel": "license", "href": "../api.html", "type": "text/html"}],
    }


def scene(number: int) -> dict[str, Any]:
    """Scene ``number``; every tenth degree of cloud cover, letter and mission comes again."""
    west, south = 20.2 + number % 10, 20.2 + number // 10
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"scene-{number:03}",
        "geometry": square(west, south),
        "bbox": [west, south, west + 0.5, south + 0.5],
        "properties": {
            "datetime": f"2021-04-{1 + number % 28:02}T04:39:{number % 60:02}.125Z",
            "title": f"Scene number {number}",
            "eo:cloud_cover": number * 2.5,
            "mission": f"sentinel-{1 + number % 2}",
            "test:letter": "abcdef"[number % 6],
        },
        "assets": {"page": {"href": "../../../api.html", "type": "text/html", "roles": ["data"]}},
        "links": [],
    }


@pytest.fixture
def filled_api(api_server: ApiServer) -> ApiServer:
    """An API with thirty scenes in one collection, and one to write to."""
    with httpx.Client(base_url=api_server.url) as http:
        for identity in (COLLECTION, TRANSACTIONS):
            http.post("/collections", json=collection(identity)).raise_for_status()
        items = {"type": "FeatureCollection", "features": [scene(n) for n in range(30)]}
        http.post(f"/collections/{COLLECTION}/items", json=items).raise_for_status()
    return api_server


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts other than this one that somebody looked up; none of them is found."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def look_up_here(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (None, "localhost") and not _is_loopback(name):
            asked.append(name)
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is outside")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    return asked


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@pytest.fixture
def core_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """stac-validator finds the schemas of STAC here instead of fetching them."""
    schemas = published()
    fetch = stac_validator.utilities.fetch_and_parse_file

    def read(address: str, headers: dict[str, str] | None = None) -> Any:
        known = schemas.get(address.rstrip("#"))
        return fetch(address, headers) if known is None else known

    monkeypatch.setattr(stac_validator.utilities, "fetch_and_parse_file", read)
