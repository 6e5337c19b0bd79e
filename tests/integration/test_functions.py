"""The functions between the real API and the real local engine, with real processes.

The tests are the bus: they deliver each event when, as often and in the order they want.
"""

import contextlib
import dataclasses
import json
import logging
import queue
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from functions import launch_run, reconcile, register_model, track_run
from functions.messages import Handler
from functions.services import Services, SystemAuth, publish_job_change
from mlops.api import Api, Item, NotFoundError
from mlops.engines import Engine, Phase
from mlops.engines.local import LocalEngine
from mlops.events import (
    BusEvent,
    Function,
    queue_event,
    routes,
    scheduled_event,
)
from mlops.storage.hrefs import key_of
from stac_api.logs import AddRequestId
from tests.conftest import ApiServer
from tests.integration.conftest import run_item
from tests.stac_schemas import faults

RUNS, MODELS = "alps-training-runs", "alps-models"
PATIENCE = 30.0

GOOD_JOB = """
document = json.load(open(os.environ["MLOPS_JOB"]))
store, prefix = open_store(document["storage_url"]), document["output_prefix"]

def onnx_file(width=4):
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["series"], ["scores"])], "g",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", width])])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()

def tensor(name):
    return {"name": name, "shape": [-1, 4], "dim_order": ["batch", "time"], "description": name}

def description():
    return {
        "architecture": "TempCNN", "learning_approach": "supervised",
        "prediction_type": "classification", "framework": "PyTorch",
        "framework_version": "2.13.0", "total_parameters": 0,
        "inputs": [tensor("series")], "outputs": [tensor("scores")],
        "classes": [{"value": 1, "name": "forest"}], "hyperparameters": {"epochs": 2},
        "opset": 20, "exporter": "torch.onnx.export",
        "parity": {"samples": 1, "max_absolute_error": 0.0, "max_relative_error": 0.0,
                   "tolerance": 1e-4, "passed": True}}

def put(name, content, key):
    stored = store.put_bytes(prefix + name, content)
    return {"key": stored.key, "size": stored.size, "sha256": stored.sha256,
            "media_type": "application/octet-stream", "title": key}

def report(code, reason, **outputs):
    outcome = {"exit_code": code, "reason": reason, "outputs": outputs,
               "metrics": {"val_balanced_accuracy": 0.75}, "environment": {"device": "cpu"}}
    store.put_bytes(prefix + "outcome.json", json.dumps(outcome).encode())
    sys.exit(code)

def hand_over(model=None):
    report(0, "done", model=put("model/model.onnx", model or onnx_file(), "model"),
           model_description=put("model/model.json", json.dumps(description()).encode(), "d"),
           log=put("log.txt", b"log", "log"))
"""


class Line:
    """API, engine and functions, joined by events that wait until a test delivers them."""

    def __init__(self, server: ApiServer, user: Api, folder: Path) -> None:
        self.user = user
        self.events: queue.Queue[BusEvent] = queue.Queue()
        self.script = folder / "job.py"
        self.job("hand_over()")
        self.store = server.store
        self.api = Api(server.url, auth=SystemAuth(server.settings.token_secret), patience=0)
        self.token_secret = server.settings.token_secret
        self.engines: list[LocalEngine] = []
        self.replace_engine(folder / "jobs")

    def replace_engine(self, folder: Path) -> None:
        """Join the functions to an engine that knows the jobs of ``folder`` only."""
        self.engine = LocalEngine(
            folder,
            2,
            lambda document, state: publish_job_change(self, "local", document, state),
            grace=1.0,
            command=[sys.executable, str(self.script)],
        )
        self.engines.append(self.engine)
        self.services = self.services_with({"local": self.engine})
        self.handlers: dict[Function, Handler] = {
            Function.LAUNCH_RUN: launch_run.build(self.services),
            Function.TRACK_RUN: track_run.build(self.services),
            Function.REGISTER_MODEL: register_model.build(self.services),
            Function.RECONCILE: reconcile.build(self.services),
        }

    def services_with(self, engines: dict[str, Engine], api: Api | None = None) -> Services:
        """What the functions work with."""
        return Services(api or self.api, self.store, engines, self, self.token_secret)

    def publish(self, event: BusEvent) -> None:
        """An event of the functions or the engine."""
        self.events.put(event)

    def job(self, program: str) -> None:
        """What the next jobs do."""
        head = """
            import json, os, signal, sys, time
            from onnx import TensorProto, helper
            from mlops.storage import open_store
            """
        parts = (textwrap.dedent(head), GOOD_JOB, textwrap.dedent(program))
        self.script.write_text("\n".join(parts))

    def submit(self, **properties: Any) -> Item:
        run, _ = self.user.create_item(RUNS, run_item(**properties))
        return run

    def dismiss(self, run: Item) -> None:
        self.user.merge_patch(RUNS, run["id"], {"properties": {"mlops:status": "dismissed"}})

    def read(self, run: Item) -> dict[str, Any]:
        properties: dict[str, Any] = self.user.get_item(RUNS, run["id"]).item["properties"]
        return properties

    def next(self) -> BusEvent:
        return self.events.get(timeout=PATIENCE)

    def deliver(self, *events: BusEvent, to: Function | None = None) -> None:
        """Deliver events once; all have to be taken."""
        for event in events:
            targets = (to,) if to else routes(event)
            assert targets
            for function in targets:
                batch = queue_event([(event.id, event.to_json(), 1)], function)
                assert self.handlers[function](batch, None) == {"batchItemFailures": []}

    def deliver_at_once(self, times: int, event: BusEvent) -> None:
        """Deliver an event several times at the same time, by threads."""
        with ThreadPoolExecutor(times) as threads:
            for delivery in [threads.submit(self.deliver, event) for _ in range(times)]:
                delivery.result()

    def models(self) -> list[Item]:
        return list(self.user.search(collections=[MODELS]))

    def runs_to_end(self, run: Item) -> BusEvent:
        """Launch a run and give the event of its job's end."""
        self.deliver(record_event(run, "accepted"))
        return self.next()


def record_event(run: Item, status: str, attempt: int = 1) -> BusEvent:
    """The event that the record sends for a run."""
    now = datetime.now(UTC)
    detail = {
        "id": f"{run['id']}-{status}",
        "time": now.isoformat(),
        "workspace": "alps",
        "collection": RUNS,
        "item": run["id"],
        "attempt": attempt,
        "href": "http://localhost/",
    }
    return BusEvent(
        id=detail["id"],
        source="mlops.stac-api",
        detail_type=f"run.{status}",
        time=now,
        detail=detail,
    )


@pytest.fixture
def line(api_server: ApiServer, workspace: Api, tmp_path: Path) -> Iterator[Line]:
    line = Line(api_server, workspace, tmp_path)
    yield line
    for engine in line.engines:
        engine.close()
    for process in processes(line):
        process.kill()


def processes(line: Line) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            folder = process.environ().get("MLOPS_JOB_FOLDER", "")
            own = folder.startswith(tuple(str(engine.folder) for engine in line.engines))
        except (psutil.Error, OSError):
            continue
        if own and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_for_program(line: Line) -> None:
    """Wait until a job's own program runs."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for process in processes(line):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:] == [str(line.script)]:
                    return
        time.sleep(0.01)
    pytest.fail("no job began")


def jobs(line: Line) -> list[str]:
    return sorted(path.name for path in line.engine.folder.iterdir())


def test_every_event_five_times_makes_one_job_and_one_model(line: Line) -> None:
    run = line.submit()
    line.deliver_at_once(5, record_event(run, "accepted"))
    ended = line.next()
    assert ended.detail["phase"] == "succeeded"
    assert len(jobs(line)) == 1
    job = line.read(run)["mlops:job"]
    assert (job["engine"], job["id"]) == ("local", jobs(line)[0])
    line.deliver_at_once(5, ended)
    line.deliver(ended, record_event(run, "accepted"))
    (model,) = line.models()
    properties = line.read(run)
    assert properties["mlops:status"] == "successful"
    assert properties["mlops:exit"] == {"code": 0, "reason": "done"}
    assert properties["mlops:metrics"] == {"val_balanced_accuracy": 0.75}
    assert properties["mlops:cost"]["seconds"] > 0
    assert properties["mlops:started"] <= properties["mlops:finished"]
    assert model["id"] == "landcover-v1"
    assert len(jobs(line)) == 1
    assert line.events.empty()


def test_late_events_change_nothing(line: Line) -> None:
    run = line.submit()
    ended = line.runs_to_end(run)
    line.deliver(ended)
    before = line.user.get_item(RUNS, run["id"])
    for phase in (Phase.FAILED, Phase.LOST, Phase.STOPPED, Phase.RUNNING):
        detail = {**ended.detail, "phase": phase.value}
        line.deliver(ended.model_copy(update={"detail": detail}))
    line.deliver(record_event(run, "accepted"), record_event(run, "dismissed"))
    assert line.user.get_item(RUNS, run["id"]) == before
    assert len(line.models()) == 1


def test_the_model_item_is_complete(line: Line) -> None:
    line.deliver(line.runs_to_end(line.submit()))
    (model,) = line.models()
    assert faults(model) == []
    key = key_of(line.store, line.api.url, model["assets"]["model"]["href"])
    assert line.store.size(key) == model["assets"]["model"]["file:size"]
    assert set(model["assets"]) == {"model", "model_description", "log"}
    links = {link["rel"]: link["href"] for link in model["links"]}
    assert links["derived_from"].endswith("/collections/alps-training-data/items/fields-v1")
    assert model["properties"]["mlops:onnx"]["checked"] is True


def test_a_job_that_fails_tells_its_own_reason(line: Line) -> None:
    line.job('report(1, "ValueError: no such band")')
    run = line.submit()
    ended = line.runs_to_end(run)
    line.deliver(ended, ended)
    properties = line.read(run)
    assert properties["mlops:status"] == "failed"
    assert properties["mlops:exit"] == {"code": 1, "reason": "ValueError: no such band"}
    assert properties["mlops:cost"]["instance"] == "local"


def test_a_killed_job_fails_its_run(line: Line) -> None:
    line.job("os.kill(os.getpid(), signal.SIGKILL)")
    run = line.submit()
    line.deliver(line.runs_to_end(run))
    properties = line.read(run)
    assert properties["mlops:status"] == "failed"
    assert "SIGKILL" in properties["mlops:exit"]["reason"]
    assert properties["mlops:finished"]


def test_a_platform_fault_is_tried_again(line: Line) -> None:
    line.job('hand_over() if document["attempt"] == 2 else report(3, "disk away")')
    run = line.submit(**{"mlops:compute": {"max_attempts": 2}})
    first = line.runs_to_end(run)
    line.deliver(first, first)
    second = line.next()
    assert line.read(run)["mlops:attempt"] == 2
    assert "mlops:exit" not in line.read(run)
    line.deliver(first, second, first)
    assert line.read(run)["mlops:status"] == "successful"
    assert len(jobs(line)) == 2


def test_attempts_end(line: Line) -> None:
    line.job('report(3, "disk away")')
    run = line.submit(**{"mlops:compute": {"max_attempts": 2}})
    line.deliver(line.runs_to_end(run))
    line.deliver(line.next())
    properties = line.read(run)
    assert (properties["mlops:status"], properties["mlops:attempt"]) == ("failed", 2)
    assert properties["mlops:exit"] == {"code": 3, "reason": "disk away"}


def test_a_dismissed_run_stops_its_job(line: Line) -> None:
    line.job("time.sleep(600)")
    run = line.submit()
    line.deliver(record_event(run, "accepted"))
    # A job that is stopped before it began costs nothing.
    wait_for_program(line)
    line.dismiss(run)
    line.deliver(record_event(run, "dismissed"), record_event(run, "dismissed"))
    assert line.read(run)["mlops:exit"] == {"reason": "Dismissed on request."}
    stopped = line.next()
    assert stopped.detail["phase"] == "stopped"
    assert processes(line) == []
    line.deliver(stopped, stopped)
    properties = line.read(run)
    assert properties["mlops:status"] == "dismissed"
    assert properties["mlops:finished"]
    assert "mlops:cost" in properties


@pytest.mark.parametrize("order", [("dismissed", "accepted"), ("accepted", "dismissed")])
def test_a_run_dismissed_before_its_launch_never_runs(line: Line, order: tuple[str, str]) -> None:
    line.job("time.sleep(600)")
    run = line.submit()
    line.dismiss(run)
    for status in order:
        line.deliver(record_event(run, status))
    assert jobs(line) == []
    assert line.read(run)["mlops:finished"]


def test_a_deleted_run_is_dropped(line: Line) -> None:
    run = line.submit()
    line.user.delete_item(RUNS, run["id"])
    line.user.delete_item(RUNS, run["id"])
    with pytest.raises(NotFoundError):
        line.read(run)
    line.deliver(record_event(run, "accepted"), record_event(run, "dismissed"))
    assert jobs(line) == []


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ('hand_over(b"no model")', "The ONNX file failed its check: it is not an ONNX model"),
        ("hand_over(onnx_file(7))", "failed its check: input 'series' has shape [-1, 7]"),
        ('report(0, "done")', "handed over no model.json"),
        ("pass", "left no report"),
        (
            'report(0, "done", model={"key": "alps/other", "size": 1, "sha256": "a" * 64,'
            ' "media_type": "x", "title": "x"})',
            "a file that is not its own",
        ),
    ],
)
def test_what_is_no_model_fails_the_run(line: Line, program: str, words: str) -> None:
    line.job(program)
    run = line.submit()
    ended = line.runs_to_end(run)
    line.deliver(ended, ended)
    properties = line.read(run)
    assert properties["mlops:status"] == "failed"
    assert words in properties["mlops:exit"]["reason"]
    assert line.models() == []


def test_a_file_altered_in_the_store_fails_the_run(line: Line) -> None:
    run = line.submit()
    ended = line.runs_to_end(run)
    key = next(k for k in line.store.keys("alps/") if k.endswith("model.onnx"))
    line.store.put_bytes(key, b"another")
    line.deliver(ended)
    assert "not the one that the job reported" in line.read(run)["mlops:exit"]["reason"]
    assert line.models() == []


def test_two_runs_that_end_together_make_two_versions(line: Line) -> None:
    runs = [line.submit(), line.submit()]
    line.deliver(*(record_event(run, "accepted") for run in runs))
    ends = [line.next(), line.next()]
    with ThreadPoolExecutor(2) as threads:
        for delivery in [threads.submit(line.deliver, end) for end in ends]:
            delivery.result()
    assert sorted(model["id"] for model in line.models()) == ["landcover-v1", "landcover-v2"]
    assert {line.read(run)["mlops:status"] for run in runs} == {"successful"}


def test_a_request_that_cannot_be_met_fails_the_run(line: Line) -> None:
    run = line.submit()
    line.handlers[Function.LAUNCH_RUN] = launch_run.build(line.services_with({}))
    line.deliver(record_event(run, "accepted"))
    assert "no engine 'local'" in line.read(run)["mlops:exit"]["reason"]


def test_only_the_messages_that_failed_come_again(line: Line) -> None:
    run = line.submit()
    good = record_event(run, "accepted")
    messages = [("bad", "not json", 1), ("good", good.to_json(), 1), ("odd", "{}", 1)]
    answer = line.handlers[Function.LAUNCH_RUN](queue_event(messages, Function.LAUNCH_RUN), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}, {"itemIdentifier": "odd"}]}
    assert len(jobs(line)) == 1


def test_an_api_that_is_away_makes_the_message_come_again(line: Line) -> None:
    run = line.submit()
    away = line.services_with({"local": line.engine}, Api("http://127.0.0.1:9", patience=0))
    event = record_event(run, "accepted")
    batch = queue_event([("m", event.to_json(), 1)], Function.LAUNCH_RUN)
    answer = launch_run.build(away)(batch, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    line.deliver(event)
    assert len(jobs(line)) == 1


class TestReconcile:
    def test_says_again_what_was_not_heard(self, line: Line) -> None:
        run = line.submit()
        line.runs_to_end(run)
        line.deliver(scheduled_event("tick"))
        line.deliver(line.next())
        assert line.read(run)["mlops:status"] == "successful"
        line.deliver(scheduled_event("tock"))
        assert line.events.empty()

    def test_a_job_that_its_engine_has_forgotten_is_lost(self, line: Line, tmp_path: Path) -> None:
        line.job('time.sleep(600) if document["attempt"] == 1 else hand_over()')
        run = line.submit(**{"mlops:compute": {"max_attempts": 2}})
        line.deliver(record_event(run, "accepted"))
        line.replace_engine(tmp_path / "another")
        line.deliver(scheduled_event("tick"))
        lost = line.next()
        assert lost.detail["phase"] == "lost"
        line.deliver(lost, lost)
        line.deliver(line.next())
        properties = line.read(run)
        assert (properties["mlops:status"], properties["mlops:attempt"]) == ("successful", 2)

    def test_a_run_that_was_never_launched_is(self, line: Line) -> None:
        run = line.submit()
        line.deliver(scheduled_event("tick"))
        assert line.events.empty()
        hasty = dataclasses.replace(line.services, launch_patience=timedelta(milliseconds=1))
        line.handlers[Function.RECONCILE] = reconcile.build(hasty)
        line.deliver(scheduled_event("tock"))
        accepted = line.next()
        assert accepted.detail_type == "run.accepted"
        line.deliver(accepted)
        line.deliver(line.next())
        assert line.read(run)["mlops:status"] == "successful"

    def test_straight_from_the_schedule(self, line: Line) -> None:
        run = line.submit()
        line.runs_to_end(run)
        event = json.loads(scheduled_event("tick").to_json())
        assert line.handlers[Function.RECONCILE](event, None) == {}
        assert line.next().detail["item"] == run["id"]


def test_a_request_id_goes_through_to_the_job_and_back(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """From the event to what the function sends, to the job's document, to the engine's word."""
    caplog.handler.addFilter(AddRequestId())
    run = line.submit()
    event = record_event(run, "accepted")
    event.detail["request_id"] = "asked-for-by-hand"
    with caplog.at_level(logging.INFO, logger="stac_api.access"):
        line.deliver(event)
    patches = [r for r in caplog.records if r.name == "stac_api.access" and r.msg]
    assert {r.request_id for r in patches if "PATCH" in r.getMessage()} == {"asked-for-by-hand"}
    changes = [line.next()]
    while changes[-1].job().phase is not Phase.SUCCEEDED:
        changes.append(line.next())
    assert {change.job().request_id for change in changes} == {"asked-for-by-hand"}
