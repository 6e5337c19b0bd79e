"""The Batch engine against Batch's HTTP API, with time, retries and faults."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from mlops.engines import EngineBusyError, EngineRefusedError, JobSpec, Phase
from mlops.engines.batch import BatchEngine
from mlops.engines.submissions import Claim, Submissions
from mlops.storage import keys
from mlops.storage.s3 import S3Store
from tests.aws.engine_setup import TOKEN, batch_settings, client, job, now_of, s3_store
from tests.aws.fake_engines import FakeEngines, scripts
from tests.aws.fake_engines.faults import AwsError, LostAnswerError


@pytest.fixture(scope="module")
def server() -> Iterator[S3Store]:
    with s3_store() as made:
        yield made


@pytest.fixture
def store(server: S3Store, request: pytest.FixtureRequest) -> S3Store:
    """A store of the test's own, below a prefix."""
    name = str(abs(hash(request.node.name)))
    return S3Store(f"{server.url}/{name}", server.client)


@pytest.fixture
def fakes() -> Iterator[FakeEngines]:
    with FakeEngines() as made:
        yield made


def engine(fakes: FakeEngines, store: S3Store, **changes: Any) -> BatchEngine:
    batch = client("batch", fakes.url, retries={"total_max_attempts": 1})
    return BatchEngine(batch_settings(**changes), store, batch, batch, now=lambda: now_of(fakes))


def submissions_of(fakes: FakeEngines, store: S3Store) -> Submissions:
    """What a function does that never comes to ask Batch."""
    lifetime = timedelta(seconds=batch_settings().claim_seconds)
    return Submissions(store, lambda _name, _queue: None, lifetime, lambda: now_of(fakes))


def request_of(fakes: FakeEngines) -> dict[str, Any]:
    (only,) = fakes.batch.jobs.values()
    return only.request


def test_a_job_is_submitted_as_it_was_asked_for(fakes: FakeEngines, store: S3Store) -> None:
    spec = job(instance_type="g5.12xlarge")
    handle = engine(fakes, store).start(spec)
    assert handle.engine == "batch"
    assert list(fakes.batch.jobs) == [handle.id]
    request = request_of(fakes)
    assert (request["jobName"], request["jobQueue"]) == (spec.name, "gpu")
    assert request["jobDefinition"] == "train-pytorch"
    assert request["timeout"] == {"attemptDurationSeconds": 3600}
    assert request["retryStrategy"] == {"attempts": 1}
    container = request["containerOverrides"]
    place = f"{store.url}/_jobs/{spec.name}/job.json"
    assert container["environment"] == [{"name": "MLOPS_JOB", "value": place}]
    wanted = {one["type"]: int(one["value"]) for one in container["resourceRequirements"]}
    assert (wanted["GPU"], wanted["VCPU"]) == (4, 48)
    assert 170_000 < wanted["MEMORY"] < 192 * 1024
    assert request["tags"]["mlops:requester"] == "auth0_anna"
    assert store.get_bytes(keys.job_token(spec.name), 100) == TOKEN.encode()
    fakes.advance(1000)
    assert TOKEN not in json.dumps([request, fakes.events])


@pytest.mark.parametrize(
    ("changes", "queue"),
    [
        ({"instance_type": "g5.xlarge"}, "gpu"),
        ({"instance_type": "g5.xlarge", "spot": True}, "gpu-spot"),
        ({"instance_type": "ml.c6i.2xlarge"}, "cpu"),
        ({"instance_type": "c6i.2xlarge", "spot": True}, "cpu"),
        ({}, "gpu"),
    ],
)
def test_the_machine_decides_the_queue(
    fakes: FakeEngines, store: S3Store, changes: dict[str, Any], queue: str
) -> None:
    engine(fakes, store).start(job("queued", **changes))
    request = request_of(fakes)
    assert request["jobQueue"] == queue
    kinds = {one["type"] for one in request["containerOverrides"]["resourceRequirements"]}
    assert ("GPU" in kinds) == (queue != "cpu")


def test_several_machines(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    job_id = tried.start(job("several", instance_count=4, instance_type="p4d.24xlarge")).id
    request = request_of(fakes)
    assert request["jobDefinition"] == "train-pytorch-nodes"
    nodes = request["nodeOverrides"]
    assert nodes["numNodes"] == 4
    (override,) = nodes["nodePropertyOverrides"]
    assert override["targetNodes"] == "0:"
    assert override["containerOverrides"]["instanceType"] == "p4d.24xlarge"
    fakes.advance(1000)
    state = tried.describe(job_id)
    assert state.phase is Phase.SUCCEEDED
    assert (state.billed_seconds, state.instance) == (240, "p4d.24xlarge")


def test_the_same_job_twice_is_one_job(fakes: FakeEngines, store: S3Store) -> None:
    first = engine(fakes, store).start(job("twice"))
    fakes.advance(1000)
    assert engine(fakes, store).start(job("twice")) == first
    assert len(fakes.batch.jobs) == 1


def test_many_at_once_are_one_job(fakes: FakeEngines, store: S3Store) -> None:
    started: list[str] = []
    busy: list[EngineBusyError] = []

    def start(tried: BatchEngine) -> None:
        try:
            started.append(tried.start(job("raced")).id)
        except EngineBusyError as error:
            busy.append(error)

    engines = [engine(fakes, store) for _ in range(8)]
    threads = [threading.Thread(target=start, args=(one,)) for one in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fakes.batch.jobs) == 1
    assert set(started) == set(fakes.batch.jobs)
    assert len(started) + len(busy) == 8


def test_a_lost_answer_is_resolved_by_name(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.faults.add("SubmitJob", LostAnswerError(), after=True)
    tried = engine(fakes, store)
    with pytest.raises(BotoCoreError):
        tried.start(job("lost"))
    (only,) = fakes.batch.jobs
    assert tried.describe(job("lost").name).phase is Phase.QUEUED
    assert tried.start(job("lost")).id == only
    assert list(fakes.batch.jobs) == [only]


def test_a_fault_of_batch_before_it_took_the_job(fakes: FakeEngines, store: S3Store) -> None:
    """Nobody knows whether a 500 took effect: the claim is taken over when it is old."""
    error = AwsError("ServerException", "internal", 500)
    fakes.batch.faults.add("SubmitJob", error)
    tried = engine(fakes, store)
    with pytest.raises(ClientError, match="ServerException"):
        tried.start(job("faulty"))
    assert tried.describe(job("faulty").name).phase is Phase.UNKNOWN
    with pytest.raises(EngineBusyError, match="somebody else") as busy:
        tried.start(job("faulty"))
    fakes.advance(busy.value.retry_after)
    assert [tried.start(job("faulty")).id] == list(fakes.batch.jobs)


def test_a_job_that_lists_show_late(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.list_delay = 20
    fakes.batch.faults.add("SubmitJob", LostAnswerError(), after=True)
    tried = engine(fakes, store)
    with pytest.raises(BotoCoreError):
        tried.start(job("late"))
    with pytest.raises(EngineBusyError):
        tried.start(job("late"))
    fakes.advance(30)
    assert [tried.start(job("late")).id] == list(fakes.batch.jobs)


def test_a_function_that_dies_after_its_claim(fakes: FakeEngines, store: S3Store) -> None:
    dead = submissions_of(fakes, store)
    assert isinstance(dead.claim(job("dead").name, "gpu"), Claim)
    tried = engine(fakes, store)
    with pytest.raises(EngineBusyError):
        tried.start(job("dead"))
    assert fakes.batch.jobs == {}
    fakes.advance(301)
    assert [tried.start(job("dead")).id] == list(fakes.batch.jobs)


def test_a_function_that_dies_before_it_writes_the_id(fakes: FakeEngines, store: S3Store) -> None:
    """Crash between SubmitJob and writing down its answer."""
    tried = engine(fakes, store)
    first = tried.start(job("amnesia")).id
    submission = json.loads(store.get_bytes(keys.job_submission(job("amnesia").name), 1000))
    content = json.dumps({**submission, "job_id": None}).encode()
    store.put_bytes(keys.job_submission(job("amnesia").name), content)
    assert tried.start(job("amnesia")).id == first
    assert len(fakes.batch.jobs) == 1


def test_of_two_that_take_over_one_wins(fakes: FakeEngines, store: S3Store) -> None:
    submissions = submissions_of(fakes, store)
    slow = submissions.claim("slow-1", "gpu")
    assert isinstance(slow, Claim)
    fakes.clock.advance(timedelta(minutes=6).total_seconds())
    with pytest.raises(EngineBusyError, match="too old"):
        submissions.check_fresh(slow)
    taken = submissions.claim("slow-1", "gpu")
    assert isinstance(taken, Claim)
    with pytest.raises(EngineBusyError, match="taken over"):
        submissions.record(slow, "the-slow-one")
    assert submissions.record(taken, "the-new-one") == "the-new-one"
    assert submissions.record(slow, "the-slow-one") == "the-new-one"
    assert submissions.claim("slow-1", "gpu") == "the-new-one"


def test_throttling_is_being_busy_and_frees_the_claim(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.faults.throttle("SubmitJob", rate=1)
    tried = engine(fakes, store)
    tried.start(job("first"))
    with pytest.raises(EngineBusyError) as busy:
        tried.start(job("second"))
    assert 0 < busy.value.retry_after <= 900
    fakes.advance(2)
    tried.start(job("second"))
    assert len(fakes.batch.jobs) == 2


def test_names_differ_by_case(fakes: FakeEngines, store: S3Store) -> None:
    """Batch's filter does not tell Abc from abc; the engine does."""
    tried = engine(fakes, store)
    tried.start(job("CASE"))
    fakes.batch.faults.add("SubmitJob", LostAnswerError())
    with pytest.raises(BotoCoreError):
        tried.start(dataclasses.replace(job("case"), name=job("CASE").name.lower()))
    assert tried.describe(job("CASE").name.lower()).phase is Phase.UNKNOWN


def test_a_job_goes_from_queued_to_succeeded(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    handle = tried.start(job("whole"))
    phases = []
    for _ in range(12):
        phases.append(tried.describe(handle.id).phase)
        fakes.advance(10)
    assert list(dict.fromkeys(phases)) == [Phase.QUEUED, Phase.RUNNING, Phase.SUCCEEDED]
    state = tried.describe(job("whole").name)
    assert state == tried.describe(handle.id)
    assert (state.exit_code, state.reason, state.retryable) == (0, None, False)
    assert (state.billed_seconds, state.instance) == (60, "g5.xlarge")


def test_spot_is_taken_and_batch_starts_again(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.script = lambda _request: scripts.batch_success(interruptions=2)
    tried = engine(fakes, store)
    job_id = tried.start(job("spotty", spot=True)).id
    fakes.advance(75)
    assert tried.describe(job_id).phase is Phase.QUEUED
    fakes.advance(1000)
    state = tried.describe(job_id)
    assert state.phase is Phase.SUCCEEDED
    assert state.billed_seconds == 100


@pytest.mark.parametrize("code", [3, 143])
def test_a_job_that_spot_warned_is_started_again(
    fakes: FakeEngines, store: S3Store, code: int
) -> None:
    warned = scripts.Attempt(running=20, exit_code=code)
    fakes.batch.script = lambda _request: (warned, *scripts.batch_success())
    tried = engine(fakes, store)
    on_spot = tried.start(job("warned", spot=True)).id
    on_demand = tried.start(job("unwarned")).id
    fakes.advance(1000)
    assert tried.describe(on_spot).phase is Phase.SUCCEEDED
    assert tried.describe(on_demand).phase is Phase.FAILED


def test_spot_is_taken_too_often(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.script = lambda _request: (scripts.SPOT_TAKEN,)
    tried = engine(fakes, store, spot_retries=2)
    job_id = tried.start(job("spotless", spot=True)).id
    fakes.advance(1000)
    state = tried.describe(job_id)
    assert (state.phase, state.retryable, state.exit_code) == (Phase.FAILED, True, None)
    assert "spot" in str(state.reason)
    assert state.billed_seconds == 60


@pytest.mark.parametrize(
    ("script", "code", "words", "retryable"),
    [
        (scripts.batch_exit(1), 1, "training code failed", False),
        (scripts.batch_exit(2), 2, "not as they should be", False),
        (scripts.batch_exit(3), 3, "platform failed", True),
        (scripts.batch_exit(139), 139, "native code crashed", False),
        ((scripts.KILLED_FOR_MEMORY,), 137, "out of memory", False),
        ((scripts.NO_IMAGE,), None, "image cannot be pulled", False),
        ((scripts.NO_AGENT,), None, "container engine failed", True),
        (scripts.batch_endless(), 137, "time limit", False),
        (
            scripts.batch_cancelled_for("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"),
            None,
            "no machine of this type",
            True,
        ),
        (
            scripts.batch_cancelled_for("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"),
            None,
            "No machine of the queue",
            False,
        ),
        (
            (
                scripts.Attempt(
                    ends_in="STARTING",
                    exit_code=None,
                    reason="CannotPullContainerError: AccessDeniedException: not authorized",
                    status_reason="Task failed to start",
                ),
            ),
            None,
            "lacks a right",
            False,
        ),
        ((scripts.Attempt(exit_code=None, status_reason="New words"),), None, "New words", False),
    ],
)
def test_each_reason_of_a_failure_is_told(
    fakes: FakeEngines,
    store: S3Store,
    script: scripts.Attempts,
    code: int | None,
    words: str,
    retryable: bool,
) -> None:
    fakes.batch.script = lambda _request: script
    tried = engine(fakes, store)
    job_id = tried.start(job("ended")).id
    fakes.advance(10_000)
    state = tried.describe(job_id)
    assert state.phase is Phase.FAILED
    assert state.exit_code == code
    assert words in str(state.reason)
    assert state.retryable is retryable
    assert state.finished is not None


def test_why_a_job_waits(fakes: FakeEngines, store: S3Store) -> None:
    waiting = dataclasses.replace(scripts.NO_MACHINE, exit_code=0)
    fakes.batch.script = lambda _request: (waiting,)
    tried = engine(fakes, store)
    job_id = tried.start(job("waiting")).id
    fakes.advance(10_000)
    state = tried.describe(job_id)
    assert state.phase is Phase.QUEUED
    assert "no machine of this type" in str(state.reason)


@pytest.mark.parametrize("seconds", [0, 35, 60])
@pytest.mark.parametrize("by_name", [False, True])
def test_stop_ends_a_job_and_may_be_repeated(
    fakes: FakeEngines, store: S3Store, seconds: float, by_name: bool
) -> None:
    fakes.batch.script = lambda _request: scripts.batch_endless()
    tried = engine(fakes, store)
    handle = tried.start(job("stopped"))
    fakes.advance(seconds)
    called = job("stopped").name if by_name else handle.id
    tried.stop(called)
    tried.stop(called)
    fakes.advance(30)
    state = tried.describe(called)
    assert (state.phase, state.exit_code) == (Phase.STOPPED, None)
    tried.stop(called)


def test_what_is_not_there_is_unknown(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    for name in ("never-there", "not a name", "01234567-89ab-cdef-0123-456789abcdef"):
        assert tried.describe(name).phase is Phase.UNKNOWN
        tried.stop(name)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"instance_count": 2, "spot": True}, {}, "on-demand machines only"),
        ({"instance_type": "x1.huge"}, {}, "no instance type 'x1.huge'"),
        ({"instance_type": "c6i.2xlarge"}, {"queues": {"gpu": "gpu"}}, r"no Batch queue .*\(cpu\)"),
        ({}, {"job_definitions": {}}, "no Batch job definition for jobs with pytorch"),
        ({"instance_count": 2}, {"multi_node_job_definitions": {}}, "several machines"),
    ],
)
def test_refusals(
    fakes: FakeEngines,
    store: S3Store,
    changes: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(EngineRefusedError, match=words):
        engine(fakes, store, **settings).start(job("refused", **changes))
    assert fakes.batch.calls == []


def test_what_batch_refuses_is_a_refusal(fakes: FakeEngines, store: S3Store) -> None:
    fakes.batch.faults.add("SubmitJob", AwsError("ClientException", "GPU count is not valid"))
    with pytest.raises(EngineRefusedError, match="GPU count"):
        engine(fakes, store).start(job("refused"))


def test_a_definition_that_was_just_replaced_is_tried_again(
    fakes: FakeEngines, store: S3Store
) -> None:
    spec: JobSpec = job("replaced")
    with pytest.raises(ClientError, match="not ACTIVE"):
        engine(fakes, store, job_definitions={"pytorch": "gone"}).start(spec)
    assert [engine(fakes, store).start(spec).id] == list(fakes.batch.jobs)


def test_events_say_what_aws_says(fakes: FakeEngines, store: S3Store) -> None:
    job_id = engine(fakes, store).start(job("heard")).id
    fakes.advance(1000)
    statuses = [one["detail"]["status"] for one in fakes.events]
    assert statuses == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert {one["detail"]["jobId"] for one in fakes.events} == {job_id}
    assert "tags" not in fakes.events[-1]["detail"]
