"""What a training job hands over, made without training: for runs that need no real job."""

import json
from functools import cache
from typing import Any

from onnx import TensorProto, helper

from mlops.jobs import JobDocument
from mlops.storage import ObjectStore

_WIDTH = 4


@cache
def onnx_file() -> bytes:
    """A model of one operator."""
    shape = ["n", _WIDTH]
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["series"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def _tensor(name: str) -> dict[str, Any]:
    shape = [-1, _WIDTH]
    return {"name": name, "shape": shape, "dim_order": ["batch", "time"], "description": name}


def description() -> dict[str, Any]:
    """The description that goes with it."""
    return {
        "architecture": "TempCNN",
        "learning_approach": "supervised",
        "prediction_type": "classification",
        "framework": "PyTorch",
        "framework_version": "2.13.0",
        "total_parameters": 0,
        "inputs": [_tensor("series")],
        "outputs": [_tensor("scores")],
        "classes": [{"value": 1, "name": "forest"}],
        "hyperparameters": {"epochs": 2},
        "opset": 20,
        "exporter": "torch.onnx.export",
        "parity": {
            "samples": 1,
            "max_absolute_error": 0.0,
            "max_relative_error": 0.0,
            "tolerance": 1e-4,
            "passed": True,
        },
    }


def document_at(place: str, store: ObjectStore) -> JobDocument:
    """The job document at an ``s3://`` URL."""
    key = place.removeprefix(f"{store.url}/")
    return JobDocument.model_validate_json(store.get_bytes(key, 1 << 20))


def hand_over(store: ObjectStore, document: JobDocument, code: int = 0, reason: str = "") -> None:
    """Put the outputs and the report of a job into the store, as one does that ends so."""
    outputs = {}
    if code == 0:
        files = {
            "model": ("model/model.onnx", onnx_file()),
            "model_description": ("model/model.json", json.dumps(description()).encode()),
            "log": ("log.txt", b"log"),
        }
        for name, (path, content) in files.items():
            stored = store.put_bytes(document.output_prefix + path, content)
            outputs[name] = {
                "key": stored.key,
                "size": stored.size,
                "sha256": stored.sha256,
                "media_type": "application/octet-stream",
                "title": name,
            }
    outcome = {
        "exit_code": code,
        "reason": reason or "done",
        "outputs": outputs,
        "metrics": {"val_balanced_accuracy": 0.75},
        "environment": {"device": "cpu"},
    }
    store.put_bytes(document.output_prefix + "outcome.json", json.dumps(outcome).encode())
