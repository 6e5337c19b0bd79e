"""The table of instance types: what comes along, and one of a deployment's own."""

import json
from pathlib import Path

import pytest
from botocore.loaders import Loader

from mlops.engines import EngineRefusedError
from mlops.engines.instance_types import InstanceTypesError, read_instance_types


def test_the_table_names_what_sagemaker_takes() -> None:
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    taken = set(shapes["TrainingInstanceType"]["enum"])
    table = read_instance_types()
    assert {f"ml.{name}" for name in table.on_sagemaker} <= taken
    for name, one in table.types.items():
        assert (one.gpus > 0) == (one.gpu is not None) == (one.gpu_memory_gib is not None), name
        assert 0.85 < one.container_memory_mib / (one.memory_gib * 1024) < 1


@pytest.mark.parametrize("name", ["g5.xlarge", "ml.g5.xlarge"])
def test_a_type_is_found_under_both_names(name: str) -> None:
    plain, machine = read_instance_types().find(name, "sagemaker")
    assert (plain, machine.gpus, machine.gpu) == ("g5.xlarge", 1, "NVIDIA A10G")


def test_what_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(EngineRefusedError, match=r"it has g6\.xlarge, g6\.2xlarge"):
        read_instance_types().find("g6.tiny", "batch")


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    place = tmp_path / "types.json"
    price = {
        "engine": "batch",
        "per_hour": 1.25,
        "source": "our contract, page 7",
        "date": "2026-03-01",
    }
    own = {
        "format": 1,
        "source": "ours",
        "date": "2026-03-01",
        "currency": "EUR",
        "types": {"x9.large": {"vcpus": 2, "memory_gib": 8, "prices": [price]}},
    }
    place.write_text(json.dumps(own))
    plain, machine = read_instance_types(str(place)).find("x9.large", "batch")
    assert plain == "x9.large"
    found = machine.price("batch", spot=False)
    assert found is not None
    assert found.per_hour == 1.25
    assert machine.price("batch", spot=True) is None
    assert machine.highest_price("batch", spot=True) == found
    with pytest.raises(EngineRefusedError, match=r"SageMaker does not train on x9\.large"):
        read_instance_types(str(place)).find("x9.large", "sagemaker")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}'])
def test_a_table_that_is_not_valid(tmp_path: Path, content: str) -> None:
    place = tmp_path / "types.json"
    place.write_text(content)
    with pytest.raises(InstanceTypesError, match="not valid"):
        read_instance_types(str(place))
    with pytest.raises(InstanceTypesError, match="cannot be read"):
        read_instance_types(str(tmp_path / "none.json"))
