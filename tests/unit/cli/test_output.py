"""What commands print and how they end."""

import doctest
from datetime import UTC, datetime
from typing import Any

import pytest

import cli.output
import cli.watching
import mlops.datasets
import mlops.datasets.classes
import mlops.datasets.layout
import mlops.datasets.times
import mlops.datasets.wkb
import mlops.sdk.client
import mlops.sdk.endpoint
from cli.exit_codes import ExitCode
from cli.failures import explain
from cli.output import print_facts
from cli.watching import metric_lines, trend, update_document
from mlops.api import ApiError, ConflictError, NotFoundError, UnavailableError
from mlops.datasets import DatasetError
from mlops.sdk import Measured, MetricPoint


@pytest.mark.parametrize(
    "module",
    [
        cli.output,
        cli.watching,
        mlops.datasets,
        mlops.datasets.classes,
        mlops.datasets.layout,
        mlops.datasets.times,
        mlops.datasets.wkb,
        mlops.sdk.client,
        mlops.sdk.endpoint,
    ],
)
def test_examples_in_docstrings(module: Any) -> None:
    assert doctest.testmod(module) != (0, 0)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError(503, "x"), ExitCode.UNREACHABLE),
        (NotFoundError(404, "x"), ExitCode.NOT_FOUND),
        (ConflictError(412, "x"), ExitCode.CONFLICT),
        (ApiError(400, "x"), ExitCode.REFUSED),
        (DatasetError(["x"]), ExitCode.REFUSED),
        (PermissionError(13, "Permission denied", "/root/x"), ExitCode.FAILED),
    ],
)
def test_exit_codes(error: Exception, code: ExitCode) -> None:
    explained = explain(error)
    assert explained is not None
    assert explained[0] == code


def test_missing_extra_is_named() -> None:
    explained = explain(ModuleNotFoundError("No module named 'rasterio'", name="rasterio.warp"))
    assert explained is not None
    assert "pip install 'stac-mlops[data]'" in explained[1]


def test_a_defect_is_not_hidden() -> None:
    assert explain(KeyError("x")) is None


def point(name: str, value: float, step: int = 1) -> MetricPoint:
    return MetricPoint(name, step, datetime(2026, 1, 1, tzinfo=UTC), value)


def test_json_has_no_nan() -> None:
    points = tuple(point("loss", value) for value in (float("nan"), float("inf"), 0.5))
    document = update_document(Measured(points))
    assert [entry["value"] for entry in document["points"]] == ["NaN", "Infinity", 0.5]


def test_trend_leaves_out_what_is_not_finite() -> None:
    assert trend([1.0, float("nan"), 0.0]) == "█▁"
    assert trend([1.0]) == ""
    assert trend([2.0, 2.0]) == "▁▁"


def test_lines_hold_the_first_metrics_of_a_step() -> None:
    lines = metric_lines([point(f"m{number}", number) for number in range(7)])
    assert lines == ["step 1: m0 0, m1 1, m2 2, m3 3, m4 4, and 2 more"]


def test_facts_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    href = "http://127.0.0.1:8080/" + "x" * 200
    print_facts([("item", href), ("title", None), ("longer name", 1)])
    assert capsys.readouterr().out == f"item         {href}\nlonger name  1\n"
