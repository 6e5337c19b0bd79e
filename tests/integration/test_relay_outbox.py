"""The relay between a real outbox and a bus that refuses, fails and is away as it is told to."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config

from mlops.api import Api
from mlops.event_bridge import MOST_BYTES, EventBridgeBus
from mlops.events import BusEvent
from stac_api import relay_outbox
from stac_api.database import GivenDatabase
from stac_api.nudge import Nudge
from stac_api.outbox import Waiting
from stac_api.relay_outbox import Entrance, Relay, WaitingError, next_call, report_age
from tests.fake_event_bridge import FakeEventBridge
from tests.integration.conftest import run_item
from tests.moto_server import Aws

PUBLIC = "https://api.example.com"
RUNS = "alps-training-runs"


class Context:
    """What Lambda tells the handler."""

    function_name = "mlops-relay"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def bus() -> Iterator[FakeEventBridge]:
    with FakeEventBridge() as bus:
        yield bus


@pytest.fixture
def outbox(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def client(bus: FakeEventBridge) -> Any:
    return boto3.client(
        "events",
        endpoint_url=bus.url,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 1}),
    )


def relay_of(database_url: str, bus: FakeEventBridge) -> Relay:
    return Relay(GivenDatabase(database_url), EventBridgeBus("mlops", client(bus)), PUBLIC)


@pytest.fixture
def relay(database_url: str, bus: FakeEventBridge) -> Relay:
    return relay_of(database_url, bus)


def record(outbox: psycopg.Connection[Any], item: str, *types: str, wide: int = 0) -> None:
    """Events of one item, as the trigger records them."""
    for type_ in types:
        outbox.execute(
            "INSERT INTO mlops.outbox (detail_type, workspace, collection, item, attempt, etag)"
            " VALUES (%s, 'alps', %s, %s, 1, repeat('e', %s))",
            (type_, RUNS, item, wide),
        )


def waiting(outbox: psycopg.Connection[Any]) -> list[str]:
    rows = outbox.execute("SELECT item || ' ' || detail_type FROM mlops.outbox ORDER BY seq")
    return [text for (text,) in rows.fetchall()]


def told(bus: FakeEventBridge) -> dict[str, list[str]]:
    """Types of the events of each item, in the order in which the bus took them."""
    types: dict[str, list[str]] = defaultdict(list)
    for entry in bus.taken:
        types[json.loads(entry["Detail"])["item"]].append(entry["DetailType"])
    return dict(types)


def run(relay: Relay) -> tuple[int, list[float]]:
    ages: list[float] = []
    return relay.run(30.0, ages.append), ages


def test_committed_changes_reach_the_bus(
    workspace: Api, bus: FakeEventBridge, relay: Relay
) -> None:
    item, _ = workspace.create_item(RUNS, run_item())
    sent, ages = run(relay)
    assert (sent, ages) == (2, [0.0])
    assert [entry["DetailType"] for entry in bus.taken] == ["training-data.created", "run.accepted"]
    entry = bus.taken[-1]
    assert (entry["Source"], entry["EventBusName"]) == ("mlops.stac-api", "mlops")
    detail = json.loads(entry["Detail"])
    assert detail["href"] == f"{PUBLIC}/collections/{RUNS}/items/{item['id']}"
    assert (detail["workspace"], detail["attempt"]) == ("alps", 1)
    assert run(relay)[0] == 0


def test_ten_a_call_and_never_two_of_one_item(
    outbox: psycopg.Connection[Any], bus: FakeEventBridge, relay: Relay
) -> None:
    for number in range(25):
        record(outbox, f"r{number}", "run.accepted", "run.running", "run.successful")
    assert run(relay)[0] == 75
    assert waiting(outbox) == []
    assert all(
        types == ["run.accepted", "run.running", "run.successful"] for types in told(bus).values()
    )
    for call in bus.calls:
        items = [json.loads(entry["Detail"])["item"] for entry in call]
        assert len(items) == len(set(items)) <= 10
    assert len(bus.calls) < 12, "calls are filled"


def test_what_is_refused_holds_back_its_item_only(
    outbox: psycopg.Connection[Any], bus: FakeEventBridge, relay: Relay
) -> None:
    for item in ("good", "bad", "fine"):
        record(outbox, item, "run.accepted", "run.running")
    bus.refuse = lambda entry: (
        json.loads(entry["Detail"])["item"] == "bad" and entry["DetailType"] == "run.accepted"
    )
    ages: list[float] = []
    with pytest.raises(WaitingError, match="bad: InternalFailure: told to"):
        relay.run(30.0, ages.append)
    assert waiting(outbox) == ["bad run.accepted", "bad run.running"]
    assert len(ages) == 1
    assert ages[0] > 0
    bus.refuse = lambda _: False
    assert run(relay)[0] == 2
    assert told(bus)["bad"] == ["run.accepted", "run.running"]


def test_a_poisoned_event_does_not_hold_up_what_comes_later(
    outbox: psycopg.Connection[Any],
    bus: FakeEventBridge,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_outbox, "_BATCH", 5)
    for number in range(7):
        record(outbox, f"poison{number}", "run.accepted", "run.dismissed")
    for number in range(7):
        record(outbox, f"r{number}", "run.accepted", "run.dismissed")
    bus.refuse = lambda entry: json.loads(entry["Detail"])["item"].startswith("poison")
    with pytest.raises(WaitingError, match="7 items"):
        run(relay)
    assert len(waiting(outbox)) == 14
    assert all(types == ["run.accepted", "run.dismissed"] for types in told(bus).values())
    assert len(told(bus)) == 7


BATCH = {"Records": [{"messageId": "one"}, {"messageId": "two"}]}
FAILED = {"batchItemFailures": [{"itemIdentifier": "one"}, {"itemIdentifier": "two"}]}


def test_a_bus_that_is_down_loses_nothing(
    outbox: psycopg.Connection[Any],
    bus: FakeEventBridge,
    relay: Relay,
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = Entrance(relay, None)
    record(outbox, "r", "run.accepted", "run.running")
    outbox.execute("UPDATE mlops.outbox SET time = now() - interval '10 minutes'")
    bus.down = True
    assert handler(BATCH, Context()) == FAILED
    metric = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 600 <= metric["OutboxOldestSeconds"] < 660
    assert metric["FunctionName"] == "mlops-relay"
    assert waiting(outbox) == ["r run.accepted", "r run.running"]
    bus.down = False
    assert handler(BATCH, Context()) == {"batchItemFailures": []}
    assert told(bus) == {"r": ["run.accepted", "run.running"]}
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["OutboxOldestSeconds"] == 0


def test_the_relay_tells_itself_to_come_again(
    outbox: psycopg.Connection[Any],
    bus: FakeEventBridge,
    relay: Relay,
    aws: Aws,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_outbox, "_PAUSE", 1)
    queue = aws.queue("relay")
    handler = Entrance(relay, Nudge(queue))
    record(outbox, "r", "run.accepted")
    bus.down = True
    assert handler(BATCH, Context()) == {"batchItemFailures": []}
    assert aws.messages(queue) == []
    time.sleep(1.1)
    assert len(aws.messages(queue)) == 1
    aws.client("sqs").delete_queue(QueueUrl=queue)
    assert handler(BATCH, Context()) == FAILED


def test_a_bus_that_goes_away_between_two_calls(
    outbox: psycopg.Connection[Any], bus: FakeEventBridge, relay: Relay
) -> None:
    """What it took before is not sent twice."""
    record(outbox, "r", "run.accepted", "run.running")

    def last_call(_: dict[str, Any]) -> bool:
        bus.down = True
        return False

    bus.refuse = last_call
    with pytest.raises(WaitingError, match="the bus is away"):
        run(relay)
    assert waiting(outbox) == ["r run.running"]


def test_a_database_that_is_away_fails_the_messages(bus: FakeEventBridge) -> None:
    nowhere = relay_of("postgresql://mlops@127.0.0.1:9/mlops", bus)
    assert Entrance(nowhere, Nudge("http://127.0.0.1:9/queue"))(BATCH, Context()) == FAILED


def test_when_its_time_is_over_the_rest_is_next(
    outbox: psycopg.Connection[Any], relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_outbox, "_BATCH", 5)
    for number in range(12):
        record(outbox, f"r{number}", "run.accepted")
    with pytest.raises(WaitingError, match="time is over after 5"):
        relay.run(-1.0, lambda _: None)
    assert len(waiting(outbox)) == 7


def test_several_relays_beside_busy_writers_keep_the_order(
    database_url: str, bus: FakeEventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers of one item follow one another, as row locks have it; their transactions do not end
    in the order in which their events were numbered."""
    monkeypatch.setattr(relay_outbox, "_BATCH", 7)
    writing = threading.Event()
    writing.set()

    def write(item: str) -> None:
        with psycopg.connect(database_url) as connection:
            for number in range(30):
                record(connection, item, f"item.{number}")
                if number % 3 == 0:
                    connection.execute("SELECT pg_sleep(0.004)")
                connection.commit()

    def relay_while_writing() -> None:
        relay = relay_of(database_url, bus)
        while writing.is_set():
            relay.run(30.0, lambda _: None)

    with ThreadPoolExecutor() as threads:
        relays = [threads.submit(relay_while_writing) for _ in range(2)]
        for writer in [threads.submit(write, f"r{number}") for number in range(4)]:
            writer.result()
        writing.clear()
        for one in relays:
            one.result()
    relay_of(database_url, bus).run(30.0, lambda _: None)
    expected = [f"item.{number}" for number in range(30)]
    assert told(bus) == {f"r{number}": expected for number in range(4)}


def test_a_call_is_not_larger_than_the_bus_takes(
    outbox: psycopg.Connection[Any], bus: FakeEventBridge, relay: Relay
) -> None:
    for number in range(8):
        record(outbox, f"r{number}", "run.accepted", wide=60_000)
    assert run(relay)[0] == 8
    sizes = [sum(len(entry["Detail"]) for entry in call) for call in bus.calls]
    assert [len(call) for call in bus.calls] == [4, 4]
    assert max(sizes) <= MOST_BYTES


def test_one_event_that_is_too_large_goes_alone() -> None:
    event = BusEvent(id="e", source="s", detail_type="d", time=datetime.now(UTC), detail={})
    rows = [Waiting(n, ("c", str(n)), event) for n in range(3)]
    call, rest = next_call(rows, lambda _: MOST_BYTES + 1)
    assert (call, rest) == (rows[:1], rows[1:])


def test_the_metric_is_what_cloudwatch_reads(capsys: pytest.CaptureFixture[str]) -> None:
    report_age(1.5, "relay")
    line = json.loads(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "mlops"
    assert all(name in line for names in directive["Dimensions"] for name in names)
    assert all(metric["Name"] in line for metric in directive["Metrics"])
