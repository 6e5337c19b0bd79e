"""The Item of a model version: ``mlm`` for today's clients, ``ml-model`` for EOEPCA's.

Pure: everything that the Item says is passed in. Id, version and the links between versions are
the server's to give.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from functions.model_mlm import bands_of, mlm_properties
from mlops.api import Item
from mlops.items import extension
from mlops.items.model_description import ModelDescription
from mlops.items.rels import Rel
from mlops.onnx_facts import OnnxFacts

ALTERNATE = extension.published("alternate-assets", "1.2.0")
_GEOJSON = "application/geo+json"
_SPLIT_NAMES = {"train": "train", "validation": "validate", "test": "test"}
_ROLES = {
    "model": ["mlm:model", "mlm:weights", "data"],
    "native": ["ml-model:checkpoint", "mlm:weights", "checkpoint"],
    "log": ["log", "metadata"],
    "metrics": ["metrics", "metadata"],
}


@dataclass(frozen=True)
class ModelFile:
    """A file of the model at its permanent place.

    ``download`` is its HTTPS href where ``href`` is one that a browser cannot follow.
    """

    href: str
    size: int
    sha256: str
    media_type: str
    title: str
    download: str | None = None


@dataclass(frozen=True)
class TrainedOn:
    """A dataset version that the model learned from; ``split`` as the run's link names it."""

    href: str
    item: Item
    split: str | None = None

    @property
    def splits(self) -> list[str | None]:
        """The splits that were used, in ``ml-aoi``'s words."""
        if self.split is not None:
            return [self.split]
        own = self.item["properties"].get("mlops:splits") or {}
        known = [name for split, name in _SPLIT_NAMES.items() if split in own]
        return [*known] or [None]


@dataclass(frozen=True)
class ModelParts:
    """All that a model's Item is made from."""

    run: Item
    run_href: str
    description: ModelDescription
    facts: OnnxFacts
    metrics: dict[str, float]
    environment: dict[str, Any]
    finished: str
    files: dict[str, ModelFile]
    """By asset key; ``model`` is the ONNX file."""
    datasets: list[TrainedOn]
    storage_scheme: dict[str, Any] | None = None
    """The ``storage`` extension's scheme of the object store, where assets lie in one."""


def model_item(parts: ModelParts) -> Item:
    """The Item to POST to the models of a workspace."""
    geometry = _geometry(parts)
    return {
        "type": "Feature",
        "stac_version": extension.STAC_VERSION,
        "stac_extensions": _extensions(parts),
        "geometry": geometry,
        "bbox": _bounds(geometry),
        "properties": _properties(parts),
        "links": list(_links(parts)),
        "assets": {key: _asset(key, file, parts) for key, file in parts.files.items()},
    }


def _extensions(parts: ModelParts) -> list[str]:
    always = [
        extension.MLOPS,
        extension.MLM,
        extension.ML_MODEL,
        extension.VERSION,
        extension.FILE,
        extension.PROCESSING,
        extension.CLASSIFICATION,
        extension.ML_AOI,
    ]
    stored = [extension.STORAGE] if parts.storage_scheme else []
    alternates = any(file.download for file in parts.files.values())
    return [*always, *stored, *([ALTERNATE] if alternates else [])]


def _properties(parts: ModelParts) -> dict[str, Any]:
    run = parts.run["properties"]
    properties: dict[str, Any] = {
        "description": _description(parts),
        **_time_range(parts),
        **mlm_properties(run, parts.description, parts.facts.size),
        **_ml_model(parts),
        "processing:lineage": _lineage(parts),
        "processing:software": _software(parts),
        "processing:datetime": parts.finished,
        "mlops:model": run["mlops:model"],
        "mlops:run": parts.run["id"],
        "mlops:task": run["mlops:task"],
        "mlops:metrics": parts.metrics,
        "mlops:onnx": _onnx(parts),
    }
    for name in ("mlops:recipe", "mlops:objective", "mlops:objective_value"):
        if run.get(name) is not None:
            properties[name] = run[name]
    if bands := bands_of(parts.description):
        properties["bands"] = bands
    if parts.storage_scheme is not None:
        properties["storage:schemes"] = {"store": parts.storage_scheme}
    return properties


def _ml_model(parts: ModelParts) -> dict[str, Any]:
    described = parts.description
    device = str(parts.environment.get("device", described.accelerator or "cpu"))
    properties = {
        "ml-model:type": "ml-model",
        "ml-model:learning_approach": described.learning_approach,
        "ml-model:prediction_type": described.prediction_type,
        "ml-model:architecture": described.architecture,
        "ml-model:training-processor-type": "gpu" if device.startswith("cuda") else "cpu",
    }
    if platform := parts.environment.get("platform"):
        properties["ml-model:training-os"] = str(platform).partition("-")[0].lower()
    return properties


def _onnx(parts: ModelParts) -> dict[str, Any]:
    facts = parts.facts
    return {
        "opset": facts.opset,
        "ir_version": facts.ir_version,
        "checked": True,
        "checker": facts.checker,
        "exporter": parts.description.exporter,
        "parity": parts.description.parity.model_dump(),
        **({"producer": facts.producer} if facts.producer else {}),
        **({"notes": facts.notes} if facts.notes else {}),
    }


def _software(parts: ModelParts) -> dict[str, str]:
    described = parts.description
    software = {str(name): str(value) for name, value in described.software.items()}
    return {described.framework: described.framework_version, **software}


def _description(parts: ModelParts) -> str:
    described = parts.description
    classes = ", ".join(one.name for one in described.classes)
    return f"{described.architecture}, {described.prediction_type}" + (
        f" of {classes}." if classes else "."
    )


def _lineage(parts: ModelParts) -> str:
    names = ", ".join(one.item["id"] for one in parts.datasets)
    return f"Trained by run {parts.run['id']} on {names}."


def _asset(key: str, file: ModelFile, parts: ModelParts) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": file.href,
        "title": file.title,
        "type": file.media_type,
        "roles": _ROLES.get(key, ["metadata"]),
        "file:size": file.size,
        "file:checksum": f"1220{file.sha256}",
    }
    if key == "model":
        asset["mlm:artifact_type"] = parts.description.exporter
        if bands := bands_of(parts.description):
            asset["bands"] = bands
    if file.download is not None:
        asset["alternate"] = {"https": {"href": file.download, "title": "Download over HTTPS"}}
    if parts.storage_scheme is not None:
        asset["storage:refs"] = ["store"]
    return asset


def _links(parts: ModelParts) -> Iterator[dict[str, Any]]:
    yield _link(Rel.TRAINING_RUN, parts.run_href, parts.run["id"])
    for dataset in parts.datasets:
        for split in dataset.splits:
            link = _link(Rel.DERIVED_FROM, dataset.href, dataset.item["id"])
            yield link if split is None else {**link, "ml-aoi:split": split}
        if {"train", None} & set(dataset.splits):
            yield _link(Rel.ML_MODEL_TRAIN_DATA, dataset.href, dataset.item["id"])


def _link(rel: Rel, href: str, title: str) -> dict[str, Any]:
    return {"rel": rel.value, "href": href, "type": _GEOJSON, "title": title}


def _time_range(parts: ModelParts) -> dict[str, Any]:
    starts, ends = [], []
    for dataset in parts.datasets:
        properties = dataset.item["properties"]
        instant = properties.get("datetime")
        starts.append(properties.get("start_datetime") or instant)
        ends.append(properties.get("end_datetime") or instant)
    return {
        "datetime": None,
        "start_datetime": min(starts, key=datetime.fromisoformat),
        "end_datetime": max(ends, key=datetime.fromisoformat),
    }


def _geometry(parts: ModelParts) -> dict[str, Any]:
    """The footprint of the training data: its own for one dataset, the box around several."""
    geometries = [dataset.item["geometry"] for dataset in parts.datasets]
    if all(geometry == geometries[0] for geometry in geometries):
        first: dict[str, Any] = geometries[0]
        return first
    boxes = [_bounds(geometry) for geometry in geometries]
    west, south = min(box[0] for box in boxes), min(box[1] for box in boxes)
    east, north = max(box[2] for box in boxes), max(box[3] for box in boxes)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _bounds(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north in degrees."""
    longitudes, latitudes = zip(*_positions(geometry), strict=True)
    return [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]


def _positions(geometry: dict[str, Any]) -> Iterator[tuple[float, float]]:
    waiting: list[Any] = [geometry]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.get("geometries") or [part.get("coordinates")])
        elif isinstance(part[0], int | float):
            yield float(part[0]), float(part[1])
        else:
            waiting.extend(part)
