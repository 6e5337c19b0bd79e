"""Commands without an API: what they understand, what they print, how they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import app
from mlops import __version__

# Port 9 (discard) is reserved; nothing of ours listens there.
NOWHERE = "http://127.0.0.1:9"
SUBMIT = ("run", "submit", "--model", "m", "--recipe", "r", "--data", "d")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command away from any home and environment."""
    for name in ("MLOPS_URL", "MLOPS_HOME", "MLOPS_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, list(arguments), **options)


def test_version(run) -> None:  # type: ignore[no-untyped-def]
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"mlops {__version__}"


@pytest.mark.parametrize(
    "command",
    [
        ("workspace", "list"),
        ("data", "list"),
        ("run", "list"),
        ("run", "watch", "r1"),
        ("run", "logs", "r1"),
        ("model", "pull", "landcover"),
    ],
)
def test_unreachable_api(run, command: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    result = run(*command, "--url", NOWHERE)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert NOWHERE in result.stderr
    assert "mlops up" in result.stderr
    assert result.stdout == ""


def test_unreachable_api_of_a_real_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "list", "--url", NOWHERE, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "submit"), "--model"),
        ((*SUBMIT, "--param", "epochs"), "NAME=VALUE"),
        ((*SUBMIT, "--objective", "f1:up"), "maximize"),
        (("run", "list", "--status", "done"), "accepted"),
        (("data", "push", ".", "--dataset", "d", "--datetime", "soon"), "ISO 8601"),
        (("data", "push", "."), "--dataset"),
        (("no-such-command",), "no-such-command"),
    ],
)
def test_usage_errors(run, arguments: tuple[str, ...], said: str) -> None:  # type: ignore[no-untyped-def]
    result = run(*arguments, env={"COLUMNS": "200"})
    assert result.exit_code == ExitCode.USAGE
    assert said in result.stderr


def test_run_file_must_be_json(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "run.json").write_text("{")
    result = run("run", "submit", "run.json", env={"COLUMNS": "200"})
    assert result.exit_code == ExitCode.USAGE
    assert "run.json is no JSON" in result.stderr
    result = run("run", "submit", "run.json", "--model", "m", env={"COLUMNS": "200"})
    assert "leave out --model" in result.stderr


def test_broken_home_says_what_to_do(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "endpoint.json").write_text("{}")
    result = run("workspace", "list", "--home", str(tmp_path), env={"COLUMNS": "300"})
    assert result.exit_code == ExitCode.USAGE
    assert "mlops up --home" in result.stderr


def test_sample_writes_a_dataset(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = run("data", "sample", "chips", "--seed", "3", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document == {"folder": "chips", "chips": 48, "seed": 3, "synthetic": True}
    assert len(list((tmp_path / "chips").rglob("*_labels.tif"))) == 48
    again = run("data", "sample", "chips")
    assert again.exit_code == ExitCode.FAILED
    assert "chips is not empty" in again.stderr
