"""The main job on one machine, as its user does it."""

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from mlops.datasets.pixels import read_sample
from tests.e2e.conftest import Stack, push_sample, submit
from tests.stac_schemas import faults

pytestmark = pytest.mark.e2e

LULC = {1: "cultivated land", 2: "forest", 3: "grassland", 4: "shrubland", 8: "artificial surface"}
# Chips on diagonals of the patch: its columns differ too much (the last one is 93 % forest).
SPLIT_OF_DIAGONAL = {0: "train", 1: "train", 2: "train", 3: "validation", 4: "test"}


def links_of(item: dict[str, Any]) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in item["links"]}


def lay_out_chips(source: Path, folder: Path) -> list[Path]:
    """The real chips as a dataset folder; returns the data files of the test split."""
    folder.mkdir()
    held_out = []
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["data", "labels", "split"])
        writer.writeheader()
        for data in sorted((source / "chips").glob("*_ndvi.tif")):
            labels = data.with_name(data.name.replace("_ndvi", "_lulc"))
            for path in (data, labels):
                shutil.copy(path, folder / path.name)
            row, column = int(data.name[1]), int(data.name[3])
            split = SPLIT_OF_DIAGONAL[(row + 2 * column) % 5]
            writer.writerow({"data": data.name, "labels": labels.name, "split": split})
            if split == "test":
                held_out.append(folder / data.name)
    classes = [{"value": 0, "name": "no data", "nodata": True}]
    classes += [{"value": value, "name": name} for value, name in LULC.items()]
    (folder / "classes.json").write_text(json.dumps(classes))
    return held_out


def test_on_real_sentinel2_data(shared_stack: Stack, shared_data: Path, tmp_path: Path) -> None:
    """Chips of Slovenia, from folder to a model that classifies chips it never saw."""
    folder = tmp_path / "slovenia"
    held_out = lay_out_chips(shared_data, folder)
    shared_stack.mlops("workspace", "create", "alps")
    pushed = shared_stack.mlops_json("data", "push", str(folder), "-d", "slovenia", "-w", "alps")
    assert pushed["item"]["id"] == "slovenia-v1"
    run = shared_stack.mlops_json(
        *("run", "submit", "--model", "alpine", "--recipe", "pixel-timeseries"),
        *("--data", "slovenia", "-w", "alps", "-p", "seed=7"),
    )["id"]
    shared_stack.mlops("run", "watch", run, "-w", "alps")

    ended = shared_stack.run("alps", run)
    assert ended["properties"]["mlops:status"] == "successful"
    model = httpx.get(links_of(ended)["model"]).json()
    assert model["id"] == "alpine-v1"
    assert links_of(model)["training-run"] == links_of(ended)["self"]
    assert links_of(model)["derived_from"].endswith("/alps-training-data/items/slovenia-v1")
    assert faults(model) == []

    onnx = tmp_path / "model.onnx"
    shared_stack.mlops("model", "pull", "alpine", "-w", "alps", "-o", str(onnx))
    scores = score(onnx, held_out, model)
    reported = ended["properties"]["mlops:metrics"]
    assert scores["accuracy"] == pytest.approx(reported["test_accuracy"], abs=1e-6)
    assert scores["balanced_accuracy"] == pytest.approx(
        reported["test_balanced_accuracy"], abs=1e-6
    )
    # A classifier that says "forest" everywhere has a balanced accuracy of 1 / classes.
    assert scores["accuracy"] > scores["baseline_accuracy"]
    assert scores["balanced_accuracy"] > 1.5 * scores["baseline_balanced_accuracy"]
    assert reported["test_baseline_accuracy"] == pytest.approx(scores["baseline_accuracy"])
    print(json.dumps(reported, indent=1))


def score(onnx: Path, held_out: list[Path], model: dict[str, Any]) -> dict[str, float]:
    """Scores of the ONNX file on held-out chips, computed here from the files alone."""
    session = onnxruntime.InferenceSession(str(onnx))
    values = [c["value"] for c in model["properties"]["mlm:output"][0]["classification:classes"]]
    truth, predicted = [], []
    for data in held_out:
        labels = data.with_name(data.name.replace("_ndvi", "_lulc"))
        pixels = read_sample(data, labels, name=data.name)
        assert pixels.labels is not None
        known = np.isin(pixels.labels, values)
        probabilities = session.run(None, {"series": pixels.series[known]})[0]
        predicted.append(np.asarray(values)[probabilities.argmax(axis=1)])
        truth.append(pixels.labels[known])
    actual, guessed = np.concatenate(truth), np.concatenate(predicted)
    present = np.unique(actual)
    recalls = [(guessed[actual == value] == value).mean() for value in present]
    forest = 2
    return {
        "accuracy": float((actual == guessed).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "baseline_accuracy": float((actual == forest).mean()),
        "baseline_balanced_accuracy": 1 / len(present),
    }


def test_with_nothing_but_curl(shared_stack: Stack, tmp_path: Path) -> None:
    """A run posted with curl; the second model is version 2 and linked to version 1."""
    push_sample(shared_stack, tmp_path / "sample", "curl")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "by-curl",
        "geometry": None,
        "properties": {
            "datetime": "2026-11-23T10:00:00Z",
            "mlops:model": "landcover",
            "mlops:task": "semantic-segmentation",
            "mlops:framework": "pytorch",
            "mlops:recipe": "pixel-timeseries",
            "mlops:hyperparameters": {"epochs": 2, "max_pixels": 2000},
        },
        "links": [
            {
                "rel": "training-data",
                "href": "../../curl-training-data/items/sample-v1",
                "ml-aoi:split": "train",
            }
        ],
        "assets": {},
    }
    (tmp_path / "run.json").write_text(json.dumps(item))
    url = f"{shared_stack.url}/collections/curl-training-runs/items"
    subprocess.run(
        ["curl", "-sSf", "-H", "Content-Type: application/json", "-d", "@run.json", url],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    other = submit(shared_stack, "epochs=1", "max_pixels=2000", workspace="curl")
    ended = [
        shared_stack.wait_for_status("curl", run, "successful", "failed")
        for run in ("by-curl", other)
    ]
    assert [run["properties"]["mlops:status"] for run in ended] == ["successful"] * 2
    assert ended[0]["geometry"]["type"] == "Polygon"
    versions = shared_stack.mlops_json("model", "list", "-w", "curl")
    assert len(versions) >= 1
    first, second = (
        httpx.get(f"{shared_stack.url}/collections/curl-models/items/landcover-v{n}").json()
        for n in (1, 2)
    )
    assert links_of(second)["predecessor-version"] == links_of(first)["self"]
    assert links_of(first)["successor-version"] == links_of(second)["self"]
    assert links_of(first)["latest-version"] == links_of(second)["self"]


def test_pystac_client_reads_it(shared_stack: Stack) -> None:
    """A client that knows nothing of us finds runs and models."""
    from pystac_client import Client

    client = Client.open(shared_stack.url)
    collections = [c for c in client.get_collections() if c.id.endswith("-models")]
    assert collections
    found = list(client.search(collections=[c.id for c in collections]).items())
    assert found
    for item in found:
        assert item.properties["mlm:name"]
        assert item.assets["model"].href.startswith("http")
