"""The check of untrusted ONNX files, on real files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlops.items.model_description import ModelDescription, Parity, TensorDescription
from mlops.onnx_file import MAX_FILE_SIZE, OnnxFacts, OnnxFileError, compare, inspect

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def linear(**changes: Any) -> onnx.ModelProto:
    """``scores = series x weights`` with a dynamic batch axis."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["series", "weights"], ["scores"])],
        "linear",
        [
            helper.make_tensor_value_info(
                "series", TensorProto.FLOAT, changes.get("input", ["n", 4])
            )
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    opsets = [helper.make_opsetid("", 20), *changes.get("opsets", [])]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="test", ir_version=10)
    helper.set_model_props(model, {"author": "nobody"})
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path, **limits: Any) -> str:
    with pytest.raises(OnnxFileError) as caught:
        inspect(path, **limits)
    return str(caught.value)


def description(**changes: Any) -> ModelDescription:
    tensor = {"dim_order": ["batch", "time"], "description": "d"}
    series = TensorDescription(name="series", shape=[-1, 4], **tensor)
    scores = TensorDescription(name="scores", shape=[-1, 3], **tensor)
    return ModelDescription(
        architecture="linear",
        learning_approach="supervised",
        prediction_type="classification",
        framework="PyTorch",
        framework_version="2.13.0",
        total_parameters=12,
        inputs=[series.model_copy(update=changes.get("series", {}))],
        outputs=[scores.model_copy(update=changes.get("scores", {}))],
        hyperparameters={},
        opset=20,
        exporter="torch.onnx.export",
        parity=Parity(
            samples=1, max_absolute_error=0, max_relative_error=0, tolerance=1e-4, passed=True
        ),
    )


def test_a_good_file(path: Path) -> None:
    facts = inspect(saved(linear(), path))
    assert facts == OnnxFacts(
        size=path.stat().st_size,
        ir_version=10,
        opset=20,
        domains={"ai.onnx": 20},
        inputs=[{"name": "series", "shape": [-1, 4], "data_type": "float32"}],
        outputs=[{"name": "scores", "shape": [-1, 3], "data_type": "float32"}],
        parameters=12,
        producer="test",
        metadata={"author": "nobody"},
        checker=f"onnx {onnx.__version__}",
        notes=[],
    )
    assert compare(facts, description()) == []


def test_a_fixed_batch_is_noted_only(path: Path) -> None:
    facts = inspect(saved(linear(input=[8, 4]), path))
    assert "series" in facts.notes[0]
    assert compare(facts, description()) == []


def test_by_hand(path: Path) -> None:
    command = [sys.executable, "-m", "mlops.onnx_file"]
    good = subprocess.run([*command, str(saved(linear(), path))], capture_output=True, check=True)
    assert json.loads(good.stdout)["opset"] == 20
    path.write_bytes(b"no model")
    bad = subprocess.run([*command, str(path)], capture_output=True, check=False)
    assert bad.returncode == 1
    assert "not an ONNX model" in json.loads(bad.stdout)["error"]


@pytest.mark.parametrize("kept", [0, 1, 10, 60, 150, -1])
def test_a_truncated_file(path: Path, kept: int) -> None:
    content = linear().SerializeToString()
    path.write_bytes(content[:kept])
    assert refusal(path)


@pytest.mark.parametrize("garbage", [b"\0" * 1000, b"<html>" * 100, bytes(range(256)) * 8])
def test_garbage(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    assert "not an ONNX model" in refusal(path)


def test_deeply_nested_messages(path: Path) -> None:
    # A graph in a node's attribute, 5,000 times over: the parser must not run out of stack.
    content = b""
    for _ in range(5000):
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + varint(len(content)) + content
    path.write_bytes(b"\x3a" + varint(len(content)) + content)
    assert refusal(path)


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


@pytest.mark.parametrize("where", ["/etc/passwd", "../secret", "weights.data"])
def test_external_data_is_refused(path: Path, where: str) -> None:
    (path.parent / "weights.data").write_bytes(WEIGHTS.tobytes())
    model = linear()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", where), ("offset", "-5"), ("length", "99999999")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    message = refusal(saved(model, path))
    assert "'weights' lies in another file" in message
    assert "single file" in message


def test_external_data_in_a_subgraph_is_refused(path: Path) -> None:
    model = linear()
    hidden = numpy_helper.from_array(WEIGHTS, "hidden")
    hidden.data_location = TensorProto.EXTERNAL
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=hidden)],
        "inner",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4, 3])],
    )
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["c"], then_branch=inner, else_branch=inner)
    )
    assert "'hidden' lies in another file" in refusal(saved(model, path))


def test_an_unknown_domain_is_refused(path: Path) -> None:
    model = linear(opsets=[helper.make_opsetid("com.example", 1)])
    model.graph.node[0].domain = "com.example"
    onnx.checker.check_model(model)
    assert "'com.example'" in refusal(saved(model, path))


def test_a_domain_of_the_models_own_functions_is_known(path: Path) -> None:
    model = linear(opsets=[helper.make_opsetid("local", 1)])
    function = helper.make_function(
        "local",
        "Product",
        ["a", "b"],
        ["c"],
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        [helper.make_opsetid("", 20)],
    )
    model.functions.append(function)
    model.graph.node[0].domain, model.graph.node[0].op_type = "local", "Product"
    assert inspect(saved(model, path)).domains == {"ai.onnx": 20, "local": 1}


def test_a_tensor_that_does_not_fill_its_shape(path: Path) -> None:
    model = linear()
    model.graph.initializer[0].raw_data = b"\0" * 20
    assert "holds 20 bytes" in refusal(saved(model, path))


def test_an_operator_that_does_not_exist(path: Path) -> None:
    model = linear()
    model.graph.node[0].op_type = "MatMulX"
    assert "MatMulX" in refusal(saved(model, path))


def test_the_limits(path: Path) -> None:
    saved(linear(), path)
    assert refusal(path, memory_limit=64 << 20)
    assert "0.01 seconds" in refusal(path, timeout=0.01)
    with path.open("r+b") as file:
        file.truncate(MAX_FILE_SIZE + 1)
    assert str(MAX_FILE_SIZE) in refusal(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"series": {"name": "pixels"}}, "inputs are 'series', but its description names 'pixels'"),
        ({"series": {"shape": [-1, 5]}}, "has shape [-1, 4] in the graph and [-1, 5]"),
        ({"series": {"data_type": "float64"}}, "float32 in the graph and float64"),
        ({"scores": {"shape": [-1, 3, 1], "dim_order": ["a", "b", "c"]}}, "output 'scores'"),
        ({"scores": {"dim_order": ["batch"]}}, "dim_order"),
    ],
)
def test_a_description_of_another_graph(
    path: Path, changes: dict[str, dict[str, Any]], words: str
) -> None:
    facts = inspect(saved(linear(), path))
    differences = compare(facts, description(**changes))
    assert len(differences) == 1
    assert words in differences[0]
