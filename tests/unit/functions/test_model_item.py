"""The model's Item against the published schemas."""

import dataclasses
import json
from typing import Any

import pytest

from functions.model_item import ModelFile, ModelParts, TrainedOn, model_item
from mlops.items.model_description import (
    ModelClass,
    ModelDescription,
    Parity,
    TensorDescription,
)
from mlops.onnx_facts import OnnxFacts, OnnxTensor
from tests.stac_schemas import faults

API = "https://api.example.org"
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[10, 45], [11, 45], [11, 46], [10, 46], [10, 45]]],
}


def dataset(name: str, split: str | None = None, **properties: Any) -> TrainedOn:
    item = {
        "id": name,
        "geometry": SQUARE,
        "properties": {
            "datetime": None,
            "start_datetime": "2019-01-01T00:00:00Z",
            "end_datetime": "2019-12-31T00:00:00Z",
            "mlops:splits": {"train": {"samples": 3}, "validation": {"samples": 1}},
            **properties,
        },
    }
    return TrainedOn(f"{API}/collections/alps-training-data/items/{name}", item, split)


def described(**changes: Any) -> ModelDescription:
    values: dict[str, Any] = {
        "architecture": "TempCNN",
        "learning_approach": "supervised",
        "prediction_type": "classification",
        "framework": "PyTorch",
        "framework_version": "2.13.0",
        "total_parameters": 1234,
        "inputs": [
            TensorDescription(
                name="series",
                shape=[-1, 12, 1],
                dim_order=["batch", "time", "bands"],
                description="NDVI of a pixel",
                bands=["ndvi"],
            )
        ],
        "outputs": [
            TensorDescription(
                name="scores", shape=[-1, 2], dim_order=["batch", "class"], description="Logits"
            )
        ],
        "classes": [
            ModelClass(value=1, name="forest", color_hint="#006400"),
            ModelClass(value=2, name="water", color_hint="blue"),
        ],
        "hyperparameters": {"epochs": 3},
        "opset": 20,
        "exporter": "torch.onnx.export",
        "parity": Parity(
            samples=8,
            max_absolute_error=1e-7,
            max_relative_error=1e-6,
            tolerance=1e-4,
            passed=True,
        ),
        "software": {"onnx": "1.23.2"},
    }
    return ModelDescription(**{**values, **changes})


def parts(**changes: Any) -> ModelParts:
    values: dict[str, Any] = {
        "run": {
            "id": "first",
            "properties": {
                "mlops:model": "landcover",
                "mlops:task": "classification",
                "mlops:recipe": "pixel-timeseries",
                "mlops:objective": {"metric": "val_f1", "goal": "maximize"},
                "mlops:objective_value": 0.9,
            },
        },
        "run_href": f"{API}/collections/alps-training-runs/items/first",
        "description": described(),
        "facts": OnnxFacts(
            size=4321,
            ir_version=10,
            opset=20,
            domains={"ai.onnx": 20},
            inputs=[OnnxTensor(name="series", shape=[-1, 12, 1], data_type="float32")],
            outputs=[OnnxTensor(name="scores", shape=[-1, 2], data_type="float32")],
            parameters=1234,
            producer="pytorch 2.13.0",
            metadata={},
            checker="onnx 1.23.2",
            notes=[],
        ),
        "metrics": {"val_f1": 0.9},
        "environment": {"device": "cpu", "platform": "Linux-6.1"},
        "finished": "2026-11-23T10:00:00.000Z",
        "files": {name: file(name) for name in ("model", "native", "metrics", "log")},
        "datasets": [dataset("slovenia-v1")],
    }
    return ModelParts(**{**values, **changes})


def file(name: str, **changes: Any) -> ModelFile:
    base = ModelFile(
        href=f"{API}/assets/alps/models/landcover/first/{name}",
        size=4321,
        sha256="ab" * 32,
        media_type="application/octet-stream; framework=onnx",
        title=name,
    )
    return dataclasses.replace(base, **changes)


def as_stored(item: dict[str, Any]) -> dict[str, Any]:
    """With what the server adds, through JSON as it travels."""
    item = json.loads(json.dumps(item, allow_nan=False))
    properties = {**item["properties"], "version": "1", "title": "landcover v1"}
    home = {"rel": "collection", "href": f"{API}/collections/alps-models"}
    return {
        **item,
        "id": "landcover-v1",
        "collection": "alps-models",
        "properties": properties,
        "links": [*item["links"], home],
    }


S3 = {
    "datasets": [dataset("slovenia-v1", "train"), dataset("alps-v2", "validate")],
    "files": {
        "model": file("model", href="s3://bucket/model.onnx", download=f"{API}/assets/model.onnx")
    },
    "storage_scheme": {
        "type": "aws-s3",
        "platform": "https://{bucket}.s3.{region}.amazonaws.com",
        "bucket": "bucket",
        "region": "eu-central-1",
    },
}
NO_BANDS = described(
    inputs=[
        TensorDescription(
            name="x", shape=[-1, 3], dim_order=["Batch 1", "bands"], description="", bands=[]
        )
    ],
    classes=[],
    hyperparameters={},
    framework_version="nightly",
    accelerator="cuda",
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        S3,
        {"description": NO_BANDS},
        {"description": described(accelerator="amd64", hyperparameters={"no space": 1})},
        {"datasets": [dataset("old-v1", **{"mlops:splits": None})], "environment": {}},
    ],
    ids=["folder", "s3", "no-bands", "odd-hyperparameters", "no-splits"],
)
def test_the_item_satisfies_every_published_schema(changes: dict[str, Any]) -> None:
    assert faults(as_stored(model_item(parts(**changes)))) == []


def test_the_schemas_find_faults() -> None:
    item = as_stored(model_item(parts()))
    item["properties"]["mlm:surprise"] = 1
    del item["properties"]["ml-model:type"]
    found = "\n".join(faults(item))
    assert "mlm" in found
    assert "ml-model" in found


def test_lineage() -> None:
    links = model_item(parts())["links"]
    href = f"{API}/collections/alps-training-data/items/slovenia-v1"
    assert [(link["rel"], link["href"], link.get("ml-aoi:split")) for link in links] == [
        ("training-run", f"{API}/collections/alps-training-runs/items/first", None),
        ("derived_from", href, "train"),
        ("derived_from", href, "validate"),
        ("ml-model:train-data", href, None),
    ]


def test_a_split_that_the_run_names_is_the_only_one() -> None:
    links = model_item(parts(datasets=[dataset("a-v1", "test")]))["links"]
    assert [link.get("ml-aoi:split") for link in links] == [None, "test"]


def test_place_and_time_cover_all_datasets() -> None:
    other = dataset("other-v1", datetime="2021-05-05T00:00:00Z", start_datetime=None)
    other.item["properties"]["end_datetime"] = None
    other.item["geometry"] = {"type": "Point", "coordinates": [20, 50]}
    item = model_item(parts(datasets=[dataset("a-v1"), other]))
    assert item["bbox"] == [10, 45, 20, 50]
    assert item["geometry"]["type"] == "Polygon"
    assert item["properties"]["start_datetime"] == "2019-01-01T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2021-05-05T00:00:00Z"


def test_one_dataset_gives_its_own_footprint() -> None:
    item = model_item(parts())
    assert item["geometry"] == SQUARE
    assert item["bbox"] == [10, 45, 11, 46]


def test_what_the_model_is() -> None:
    properties = model_item(parts())["properties"]
    assert properties["mlm:name"] == properties["mlops:model"] == "landcover"
    assert properties["mlops:run"] == "first"
    assert properties["mlops:onnx"]["opset"] == 20
    assert properties["mlops:onnx"]["parity"]["passed"] is True
    assert properties["mlops:metrics"] == {"val_f1": 0.9}
    assert properties["bands"] == [{"name": "ndvi"}]
    classes = properties["mlm:output"][0]["classification:classes"]
    assert classes[0] == {
        "value": 1,
        "name": "forest",
        "description": "forest",
        "color_hint": "006400",
    }
    assert "color_hint" not in classes[1]
    assert "id" not in model_item(parts())
    assert "version" not in properties


@pytest.mark.parametrize("name", ["m", "7-bands", "x.", "a" * 100])
def test_every_model_name_has_an_mlm_name(name: str) -> None:
    base = parts()
    run = {**base.run, "properties": {**base.run["properties"], "mlops:model": name}}
    assert faults(as_stored(model_item(parts(run=run)))) == []
