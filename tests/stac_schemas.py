"""The published schemas of STAC and its extensions, offline."""

import json
from pathlib import Path
from typing import Any

import pystac.validation
import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from functions.model_item import ALTERNATE
from mlops.items.extension import MLOPS

_EXTENSIONS = Path(__file__).resolve().parents[2] / "shared" / "schemas"
_CORE = Path(pystac.validation.__file__).parent / "jsonschemas"
_ITEM = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
_OURS = Path(__file__).resolve().parents[1] / "stac_api" / "schemas" / "mlops-v1.0.0.json"
_NOT_AT_HAND = frozenset({ALTERNATE})
_PUBLISHED = "https://stac-extensions.github.io"


def faults(item: dict[str, Any]) -> list[str]:
    """All that an item breaks of STAC 1.1, of our extension and of the published ones it names.

    Skips the test where the schemas are not at hand.
    """
    if not _EXTENSIONS.is_dir():
        pytest.skip("the extensions' schemas are not here")
    registry = _registry()
    urls = [_ITEM, *(url for url in item["stac_extensions"] if url not in _NOT_AT_HAND)]
    return [
        f"{url}: {'/'.join(str(part) for part in error.absolute_path)}: {error.message[:300]}"
        for url in urls
        for error in Draft7Validator(registry.contents(url), registry=registry).iter_errors(item)
    ]


def published() -> dict[str, Any]:
    """The schemas at hand, under the URLs by which documents and other schemas name them."""
    resources: dict[str, Any] = {}
    for path in sorted(_EXTENSIONS.glob("*-v*.json")):
        name, _, version = path.stem.rpartition("-v")
        # Under the URL that items name: one of them carries another's $id.
        resources[f"{_PUBLISHED}/{name}/v{version}/schema.json"] = _loaded(path)
    for path in sorted((_EXTENSIONS / "platforms").glob("*.json")):
        resources[f"{_PUBLISHED}/storage/v2.0.0/platforms/{path.name}"] = _loaded(path)
    for path in sorted(_CORE.rglob("*.json")):
        content = _loaded(path)
        resources[content["$id"].rstrip("#")] = content
        if path.parent.name == "v1.1.0":
            # One of them misspells its $id; they refer to each other by file name.
            resources[f"{_ITEM.rpartition('/')[0]}/{path.name}"] = content
    resources[MLOPS] = _loaded(_OURS)
    return resources


def _registry() -> "Registry[Any]":
    entries = []
    for url, content in published().items():
        own = {key: value for key, value in content.items() if key != "$id"}
        entries.append((url, Resource.from_contents({"$id": url, **own}, DRAFT7)))
    registry: Registry[Any] = Registry().with_resources(entries)
    return registry


def _loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
