"""The stand-in for Lambda's execution environment behaves as Lambda does where it matters to us."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.aws.lambda_process import LambdaProcess, Package
from tests.aws.runtime_api import FunctionError, InitError

pytestmark = pytest.mark.usefixtures("lambda_runtime")

Start = Callable[..., LambdaProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a function whose module has the given text."""
    started: list[LambdaProcess] = []

    def start(
        code: str, *, snap_start: bool = False, timeout: float = 10, **env: str
    ) -> LambdaProcess:
        (tmp_path / "app.py").write_text(code)
        package = Package(tmp_path, "app.handler", timeout=timeout, snap_start=snap_start)
        process = LambdaProcess(package, env, calls=tmp_path / "calls.jsonl")
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


def test_event_and_context(start: Start) -> None:
    process = start(
        "def handler(event, context):\n"
        "    print('told')\n"
        "    left = context.get_remaining_time_in_millis()\n"
        "    return [event, context.function_name, context.aws_request_id, 0 < left <= 10000]\n"
    )
    outcome = process.invoke({"a": "ü" * 100_000})
    assert outcome.json() == [{"a": "ü" * 100_000}, "function", outcome.id, True]
    assert outcome.log == "told\n"
    assert process.init_seconds > 0


def test_sees_its_package_and_nothing_else(start: Start) -> None:
    process = start(
        "import os, sys, importlib.util as u\n"
        "def handler(event, context):\n"
        "    seen = [n for n in ('pytest', 'pip', 'boto3', 'mlops', 'tests') if u.find_spec(n)]\n"
        "    return seen, sorted(os.environ.get(n, '-') for n in ('HOME', 'GIVEN'))\n",
        GIVEN="yes",
    )
    assert process.invoke({}).json() == [[], ["-", "yes"]]


def test_an_error_is_told_with_its_type_and_trace(start: Start) -> None:
    process = start("def handler(event, context):\n    raise KeyError('x')\n")
    outcome = process.invoke({})
    assert outcome.error is not None
    assert json.loads(outcome.payload)["errorType"] == "KeyError"
    with pytest.raises(FunctionError, match="KeyError"):
        outcome.json()


def test_a_process_that_ended_is_started_again(start: Start) -> None:
    process = start(
        "import os\n"
        "def handler(event, context):\n"
        "    if event: os._exit(3)\n"
        "    return os.getpid()\n"
    )
    first = process.invoke(0).json()
    assert process.invoke(1).error == "Runtime.ExitError"
    assert process.invoke(0).json() != first


def test_time_runs_out(start: Start) -> None:
    process = start(
        "import time\ndef handler(event, context):\n    time.sleep(event)\n", timeout=0.3
    )
    outcome = process.invoke(5)
    assert outcome.error == "Sandbox.Timedout"
    assert process.invoke(0).error is None


def test_a_function_that_cannot_be_imported(start: Start) -> None:
    with pytest.raises(InitError, match="no_such_module"):
        start("import no_such_module\n")


def test_snap_start_runs_the_hooks(start: Start) -> None:
    process = start(
        "from snapshot_restore_py import register_after_restore, register_before_snapshot\n"
        "seen = []\n"
        "register_before_snapshot(seen.append, 'before')\n"
        "register_after_restore(seen.append, 'after')\n"
        "def handler(event, context):\n    return seen\n",
        snap_start=True,
    )
    assert process.invoke({}).json() == ["before", "after"]
