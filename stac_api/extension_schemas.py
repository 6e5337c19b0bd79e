"""JSON Schemas: STAC's own, and those of extensions that are known here without a network.

Known are the core schemas of STAC 1.1 (they ship with pystac-core), the schema of our own
extension, and what lies in the folder of the setting ``extension_schemas``. An extension that is
not known is let through: that it is not here says nothing about the document.
"""

import json
import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mlops.items.extension import MLOPS, published
from stac_api.documents import Document
from stac_api.hrefs import render_item
from stac_api.problems import Fault, pointer

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_CORE = "https://schemas.stacspec.org/v1.1.0"
_ITEM_SPEC = f"{_CORE}/item-spec/json-schema/"
_SCHEMA_OF = {
    "Feature": f"{_ITEM_SPEC}item.json",
    "Collection": f"{_CORE}/collection-spec/json-schema/collection.json",
}
_OURS = Path(__file__).parent / "schemas" / "mlops-v1.0.0.json"
_PUBLISHED = re.compile(r"\A([a-z0-9-]+)-v(\d+\.\d+\.\d+)\Z")
_MAX_FAULTS = 20
# Stored hrefs are URLs only with a root of the API in front.
_ANY_ROOT = "https://api.invalid/"


class SchemaError(Exception):
    """A folder of schemas cannot be used; the message says why."""


def load_schemas(folder: Path) -> None:
    """Compile every schema of a folder, so that a bad one is found before it is needed."""
    for url in _known(folder):
        _validator(url, folder)


def check_schemas(document: Document, folder: Path | None) -> list[Fault]:
    """What a document breaks of STAC, and of the extensions that it names and that are known."""
    # What is valid STAC 1.0 is valid 1.1, but for the number.
    current = orjson.loads(render_item({**document, "stac_version": "1.1.0"}, _ANY_ROOT))
    known = _known(folder)
    faults: list[Fault] = []
    for url in (
        _SCHEMA_OF[document["type"]],
        *dict.fromkeys(document.get("stac_extensions") or ()),
    ):
        if url not in known:
            continue
        validator = _validator(url, folder)
        if not validator.is_valid(current):
            faults += _faults(validator, current, url)
    return faults[:_MAX_FAULTS]


def _faults(validator: "Validator", document: Document, url: str) -> list[Fault]:
    faults = []
    for error in validator.iter_errors(document):
        leaf = _leaf(error)
        faults.append(Fault(pointer(*leaf.instance_path), f"{leaf.message[:300]} ({url})"))
        if len(faults) == _MAX_FAULTS:
            break
    return faults


def _leaf(error: Any) -> Any:
    """The fault that went furthest into the document, where a schema has alternatives."""
    alternatives = [e for branch in getattr(error.kind, "context", ()) for e in branch]
    if not alternatives:
        return error
    furthest = max((_leaf(e) for e in alternatives), key=lambda e: len(e.instance_path))
    return furthest if len(furthest.instance_path) > len(error.instance_path) else error


@cache
def _validator(url: str, folder: Path | None) -> "Validator":
    # Imported at the first write: reading needs none of it.
    from jsonschema_rs import Registry, ValidationError, validator_for

    known = _known(folder)
    try:
        registry = Registry(list(known.items()))
        return validator_for(
            known[url], registry=registry, offline=True, mask="it", validate_formats=False
        )
    except (ValueError, ValidationError) as error:
        raise SchemaError(f"The schema {url} cannot be used: {error}") from error


@cache
def _known(folder: Path | None) -> dict[str, Document]:
    """The schemas that are here, by the URL that documents name."""
    known: dict[str, Document] = {}
    core = Path(str(distribution("pystac-core").locate_file("pystac/validation/jsonschemas")))
    for path in sorted(core.rglob("*.json")):
        schema = _read(path)
        # One of STAC's misspells its $id; they refer to each other by file name.
        is_part = path.parent.name == "v1.1.0" and path.name not in (
            "catalog.json",
            "collection.json",
        )
        url = f"{_ITEM_SPEC}{path.name}" if is_part else schema["$id"]
        known[url] = {**schema, "$id": url}
    known[MLOPS] = _read(_OURS)
    for path in sorted(folder.rglob("*.json")) if folder else ():
        schema = _read(path)
        match = _PUBLISHED.match(path.stem)
        # A published schema may carry the $id of another version: its file name is right.
        url = published(match[1], match[2]) if match else str(schema.get("$id", "")).rstrip("#")
        if url:
            known[url] = {**schema, "$id": url}
    return known


def _read(path: Path) -> Document:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise SchemaError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SchemaError(f"{path} is no JSON Schema: it must hold an object.")
    return content
