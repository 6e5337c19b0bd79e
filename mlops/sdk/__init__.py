"""The Python SDK: workspaces, datasets, runs and models of a STAC API.

from mlops import Client

client = Client()
client.data.push("chips", dataset="slovenia-lulc")
run = client.runs.train(
    model="slovenia-landcover",
    recipe="pixel-timeseries",
    data=["slovenia-lulc"],
    hyperparameters={"epochs": 10},
)
for update in client.runs.watch(run.id):
    print(update)
client.models.pull("slovenia-landcover", "model.onnx")
"""

from mlops.sdk.client import Client
from mlops.sdk.endpoint import find_home, find_url
from mlops.sdk.records import DatasetVersion, ModelVersion, Run, Workspace
from mlops.sdk.updates import Logged, Measured, MetricPoint, Progressed, RunUpdate, StatusChanged

__all__ = [
    "Client",
    "DatasetVersion",
    "Logged",
    "Measured",
    "MetricPoint",
    "ModelVersion",
    "Progressed",
    "Run",
    "RunUpdate",
    "StatusChanged",
    "Workspace",
    "find_home",
    "find_url",
]
