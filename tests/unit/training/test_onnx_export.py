"""Export and parity: what differs is found, whatever made it differ."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from training.onnx_export import Exported, ParityError, check_parity, export_onnx


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def exported(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(
        model,
        torch.zeros(2, 3),
        tmp_path_factory.mktemp("onnx") / "model.onnx",
        input_name="x",
        output_name="y",
        dynamic_axes={0: "batch"},
    )


def _inputs(count: int = 2000) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def test_a_faithful_export_passes_with_its_errors(exported: Exported, model: nn.Module) -> None:
    parity = check_parity(exported, model, _inputs())

    assert parity.passed
    assert parity.samples == 2000
    assert 0 <= parity.max_absolute_error < 1e-5
    assert exported.opset >= 18


def test_one_changed_weight_fails(exported: Exported, model: nn.Module, tmp_path: Path) -> None:
    proto = onnx.load(exported.path)
    weights = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2)
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] += 0.1
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(proto, tmp_path / "other.onnx")

    with pytest.raises(ParityError, match=r"differs from the native model by up to .* held-out"):
        check_parity(Exported(tmp_path / "other.onnx", exported.opset), model, _inputs())


def test_what_is_not_finite_fails(exported: Exported, model: nn.Module) -> None:
    inputs = _inputs(10)
    inputs[3, 1] = np.nan
    with pytest.raises(ParityError, match="not finite"):
        check_parity(exported, model, inputs)


def test_a_fixed_batch_axis_is_found(model: nn.Module, tmp_path: Path) -> None:
    fixed = export_onnx(
        model,
        torch.zeros(2, 3),
        tmp_path / "fixed.onnx",
        input_name="x",
        output_name="y",
        dynamic_axes={},
    )
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        check_parity(fixed, model, _inputs(10))
