"""The command line against a real API, whose runs are played by their jobs' tokens."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.exit_codes import ExitCode
from cli.main import app
from mlops.api import Api
from tests.conftest import ApiServer
from tests.unit.datasets.rasters import write_pair

RUNS = "alps-training-runs"
Run = Callable[..., Result]


@pytest.fixture
def run(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command against the API, in a folder that holds the dataset `chips`."""
    monkeypatch.setenv("MLOPS_URL", api_server.url)
    monkeypatch.delenv("MLOPS_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "validation", "test")):
        write_pair(tmp_path / "chips" / split, f"chip{seed}", seed=seed)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def submitted(run: Run) -> str:
    """A run that was submitted by flags."""
    assert run("workspace", "create", "alps").exit_code == 0
    assert run("data", "push", "chips", "--dataset", "fields").exit_code == 0
    item = document(
        run(
            "run",
            "submit",
            "--model",
            "landcover",
            "--recipe",
            "pixel-timeseries",
            "--data",
            "fields:v1",
            "-p",
            "epochs=3",
            "--objective",
            "val_macro_f1",
            "--json",
        )
    )
    return str(item["id"])


@pytest.fixture
def job(api_server: ApiServer, submitted: str) -> Iterator[Api]:
    """The job of the submitted run, which says that it runs and what it measured."""
    with api_server.job(RUNS, submitted) as api:
        patch = {"properties": {"mlops:status": "running", "mlops:attempt": 1}}
        api.merge_patch(RUNS, submitted, patch)
        points = [
            {"name": "loss", "step": 1, "time": "2026-01-01T00:00:00Z", "value": "NaN"},
            {"name": "loss", "step": 2, "time": "2026-01-01T00:00:01Z", "value": 0.5},
        ]
        api.send_metrics(RUNS, submitted, batch="b1", attempt=1, points=points, progress=0.5)
        api.append_log(RUNS, submitted, attempt=1, offset=0, text=b"epoch 1\n")
        yield api


def test_workspaces(run: Run) -> None:
    assert document(run("workspace", "list", "--json")) == []
    made = document(run("workspace", "create", "alps", "--title", "The Alps", "--json"))
    assert made["collections"]["model"] == "alps-models"
    again = run("workspace", "create", "alps")
    assert (again.exit_code, again.stdout) == (ExitCode.CONFLICT, "")
    assert run("workspace", "create", "Not A Slug").exit_code == ExitCode.REFUSED
    assert "The Alps" in run("workspace", "list").stdout
    assert run("workspace", "show", "andes").exit_code == ExitCode.NOT_FOUND


def test_workspace_must_be_clear(run: Run) -> None:
    none = run("data", "list")
    assert (none.exit_code, "workspace create" in none.stderr) == (ExitCode.USAGE, True)
    run("workspace", "create", "alps")
    assert run("data", "list").exit_code == 0
    run("workspace", "create", "andes")
    several = run("data", "list")
    assert several.exit_code == ExitCode.USAGE
    assert "alps, andes" in several.stderr
    assert run("data", "list", "-w", "andes").exit_code == 0


def test_push(run: Run, tmp_path: Path) -> None:
    run("workspace", "create", "alps")
    pushed = document(run("data", "push", "chips", "--dataset", "fields", "--json"))
    assert pushed["created"] is True
    assert pushed["item"]["id"] == "fields-v1"
    again = run("data", "push", "chips", "--dataset", "fields")
    assert "this is version 1 of fields" in again.stdout
    assert [item["id"] for item in document(run("data", "list", "--json"))] == ["fields-v1"]
    assert "class-3" in run("data", "show", "fields").stdout
    (tmp_path / "chips" / "train" / "chip0_labels.tif").unlink()
    broken = run("data", "push", "chips", "--dataset", "fields")
    assert broken.exit_code == ExitCode.REFUSED
    assert "train/chip0.tif has no labels" in broken.stderr


def test_submit_by_flags_and_by_file(run: Run, submitted: str, tmp_path: Path) -> None:
    item = document(run("run", "show", submitted, "--json"))
    properties = item["properties"]
    assert properties["mlops:hyperparameters"] == {"epochs": 3}
    assert properties["mlops:objective"] == {"metric": "val_macro_f1", "goal": "maximize"}
    (link,) = [link for link in item["links"] if link["rel"] == "training-data"]
    assert link["href"].endswith("/collections/alps-training-data/items/fields-v1")
    request = {
        "id": "by-file",
        "properties": {
            "mlops:model": "landcover",
            "mlops:task": "classification",
            "mlops:recipe": "pixel-timeseries",
        },
        "links": [{"rel": "training-data", "href": "../../alps-training-data/items/fields-v1"}],
    }
    (tmp_path / "run.json").write_text(json.dumps(request))
    assert document(run("run", "submit", "run.json", "--json"))["id"] == "by-file"
    assert run("run", "submit", "run.json").exit_code == ExitCode.CONFLICT
    listed = document(run("run", "list", "--status", "accepted", "--json"))
    assert {entry["id"] for entry in listed} == {submitted, "by-file"}
    assert len(document(run("run", "list", "--limit", "1", "--json"))) == 1


def test_submit_says_where_to_train(run: Run, submitted: str) -> None:  # noqa: ARG001
    arguments = "run submit --model landcover --recipe pixel-timeseries --data fields --json"
    asked = "--engine local --instance-type ml.g5.xlarge --instances 2 --spot --max-attempts 3"
    item = document(run(*arguments.split(), *asked.split(), "--max-runtime", "60"))
    assert item["properties"]["mlops:compute"] == {
        "engine": "local",
        "instance_type": "ml.g5.xlarge",
        "instance_count": 2,
        "spot": True,
        "max_attempts": 3,
        "max_runtime": 60,
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"--data": "meadows"}, ExitCode.NOT_FOUND),
        ({"--recipe": "magic"}, ExitCode.NOT_FOUND),
        ({"--param": "epochs=many"}, ExitCode.REFUSED),
    ],
)
def test_what_cannot_be_run(
    run: Run, submitted: str, changes: dict[str, str], code: ExitCode
) -> None:
    flags = {"--model": "m", "--recipe": "pixel-timeseries", "--data": "fields", **changes}
    refused = run("run", "submit", *(part for flag in flags.items() for part in flag))
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert submitted


def test_watch_shows_what_happened_and_fails_with_the_run(
    run: Run, job: Api, submitted: str, api_server: ApiServer
) -> None:
    _end(api_server, submitted, "failed", "ValueError: the script raised")
    watched = run("run", "watch", submitted, "--json")
    assert watched.exit_code == ExitCode.FAILED
    lines = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["metrics", "progress", "status"]
    assert [point["value"] for point in lines[0]["points"]] == ["NaN", 0.5]
    assert lines[-1]["item"]["properties"]["mlops:exit"]["code"] == 1
    plain = run("run", "watch", submitted, "--log")
    assert "step 2: loss 0.5" in plain.stdout
    assert "epoch 1\n" in plain.stdout
    assert "ValueError: the script raised" in plain.stderr
    assert run("run", "logs", submitted).stdout == "epoch 1\n"
    assert job.url


def test_ctrl_c_stops_the_watching_only(run: Run, job: Api, submitted: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "run", "watch", submitted, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline())["type"] for _ in range(3)]
    assert seen == ["status", "metrics", "progress"]
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"mlops run dismiss {submitted}" in messages
    assert job.get_item(RUNS, submitted).item["properties"]["mlops:status"] == "running"
    assert run("run", "dismiss", submitted).stdout.strip() == f"Run {submitted} is dismissed."


def test_logs_follow_until_the_end(job: Api, submitted: str, api_server: ApiServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "run", "logs", submitted, "--follow"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "epoch 1\n"
    job.append_log(RUNS, submitted, attempt=1, offset=8, text=b"epoch 2\n")
    assert process.stdout.readline() == "epoch 2\n"
    _end(api_server, submitted, "failed", "enough")
    rest, _ = process.communicate(timeout=30)
    assert rest == ""
    assert process.returncode == 0


def test_no_models(run: Run, submitted: str) -> None:
    assert document(run("model", "list", "--json")) == []
    missing = run("model", "show", "landcover")
    assert missing.exit_code == ExitCode.NOT_FOUND
    assert run("run", "show", submitted + "x").exit_code == ExitCode.NOT_FOUND


def _end(server: ApiServer, run_id: str, status: str, reason: str) -> None:
    change = {
        "mlops:status": status,
        "mlops:attempt": 1,
        "mlops:exit": {"code": 1, "reason": reason},
    }
    with server.system() as api:
        api.merge_patch(RUNS, run_id, {"properties": change})
