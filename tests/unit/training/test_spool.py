"""The spool: whole lines, the same batches after a restart, nothing lost."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from training.metrics_file import MetricLineError, MetricsWriter, Point, parse_line
from training.outputs import last_values, read_metrics, write_metrics_table
from training.spool import LogTail, MetricsSpool, whole_characters


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def _names(points: list[Point]) -> list[str]:
    return [point.name for point in points]


def test_there_is_no_batch_before_the_script_writes(metrics: Path) -> None:
    assert MetricsSpool(metrics, 1).next_batch() is None


def test_a_line_is_left_until_it_is_whole(metrics: Path) -> None:
    spool = MetricsSpool(metrics, 1)
    metrics.write_text('{"name": "a", "step": 1, "value": 1}\n{"name": "b", "st')
    first = spool.next_batch()
    assert first is not None
    assert _names(first.points) == ["a"]
    spool.acknowledge(first)
    assert spool.next_batch() is None

    with metrics.open("a") as file:
        file.write('ep": 2, "value": 2}\n')
    second = spool.next_batch()
    assert second is not None
    assert _names(second.points) == ["b"]
    assert first.id != second.id


def test_a_last_line_without_newline_is_taken_at_the_end(metrics: Path) -> None:
    metrics.write_text('{"name": "a", "step": 1, "value": 1}')
    spool = MetricsSpool(metrics, 1)

    assert spool.next_batch() is None
    batch = spool.next_batch(final=True)

    assert batch is not None
    assert _names(batch.points) == ["a"]


def test_an_unacknowledged_batch_comes_again_with_its_id_and_its_end(metrics: Path) -> None:
    with MetricsWriter(metrics) as writer:
        writer.log(1, {"a": 1.0})
        before = MetricsSpool(metrics, 3).next_batch()
        writer.log(2, {"a": 2.0})

    spool = MetricsSpool(metrics, 3)
    again = spool.next_batch()
    assert before is not None
    assert again is not None
    assert (again.id, again.end) == (before.id, before.end)
    spool.acknowledge(again)
    following = MetricsSpool(metrics, 3).next_batch()
    assert following is not None
    assert [point.step for point in following.points] == [2]


def test_batch_ids_differ_between_attempts_and_between_contents(tmp_path: Path) -> None:
    ids = set()
    for name, attempt, value in (("a", 1, 1.0), ("b", 2, 1.0), ("c", 1, 2.0)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({"name": "loss", "step": 1, "value": value}) + "\n")
        batch = MetricsSpool(path, attempt).next_batch()
        assert batch is not None
        ids.add(batch.id)
    assert len(ids) == 3


def test_every_point_of_a_long_file_comes_once_in_bounded_batches(metrics: Path) -> None:
    with MetricsWriter(metrics) as writer:
        for step in range(6000):
            writer.log(step, {"train_loss": 1 / (step + 1), "val_loss": 2.0})
    spool, steps, sizes = MetricsSpool(metrics, 1), [], []
    while batch := spool.next_batch():
        body = json.dumps([point.to_json() for point in batch.points])
        sizes.append(len(body))
        steps += [point.step for point in batch.points if point.name == "train_loss"]
        spool.acknowledge(batch)

    assert steps == list(range(6000))
    assert len(sizes) > 1
    assert max(sizes) < 1 << 20


def test_values_that_json_has_no_number_for_are_kept(metrics: Path, tmp_path: Path) -> None:
    with MetricsWriter(metrics) as writer:
        writer.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5}, progress=0.25)
    batch = MetricsSpool(metrics, 1).next_batch()

    assert batch is not None
    sent = {point.name: point.to_json()["value"] for point in batch.points}
    assert sent == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 0.5}
    assert batch.progress == 0.25
    json.dumps([point.to_json() for point in batch.points], allow_nan=False)
    table = tmp_path / "metrics.parquet"
    write_metrics_table(read_metrics(metrics), table)
    assert math.isnan(last_values(read_metrics(metrics))["a"])
    values = {row["name"]: row["value"] for row in pq.read_table(table).to_pylist()}
    assert math.isnan(values["a"])
    assert values["c"] == -math.inf


def test_a_bare_nan_of_json_dumps_is_read() -> None:
    point = parse_line(b'{"name": "loss", "step": 3, "value": NaN}')
    assert isinstance(point, Point)
    assert math.isnan(point.value)


@pytest.mark.parametrize(
    "line",
    [
        b"epoch 1",
        b"[1]",
        b'{"name": "", "step": 1, "value": 1}',
        b'{"name": "a\\u0000", "step": 1, "value": 1}',
        b'{"name": "a", "step": -1, "value": 1}',
        b'{"name": "a", "step": 1.5, "value": 1}',
        b'{"name": "a", "step": 1, "value": "high"}',
        b'{"name": "a", "step": 1, "value": true}',
        b'{"name": "a", "step": 1, "time": "noon", "value": 1}',
        b'{"progress": 2}',
        b'{"progress": NaN}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_metric_is_reported_and_stops_nothing(line: bytes, metrics: Path) -> None:
    with pytest.raises(MetricLineError):
        parse_line(line)
    metrics.write_bytes(line + b'\n{"name": "a", "step": 1, "value": 1}\n')

    batch = MetricsSpool(metrics, 1).next_batch()

    assert batch is not None
    assert _names(batch.points) == ["a"]
    assert len(batch.rejected) == 1


def test_a_log_is_cut_between_characters(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    text = "Höhe ≥ 3 🛰".encode()
    log.write_bytes(text[:-2])
    tail = LogTail(log)
    first = tail.next_chunk()
    assert first is not None
    assert first.content.decode() == "Höhe ≥ 3 "
    tail.acknowledge(first)
    assert tail.next_chunk() is None

    log.write_bytes(text)
    rest = LogTail(log).next_chunk()
    assert rest is not None
    assert (rest.offset, rest.content.decode()) == (first.end, "🛰")


def test_a_log_that_is_no_text_still_ends(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"ok\xe2\x82")
    tail = LogTail(log)
    first = tail.next_chunk()
    assert first is not None
    tail.acknowledge(first)
    last = tail.next_chunk(final=True)
    assert last is not None
    assert last.content == b"\xe2\x82"


@pytest.mark.parametrize("text", ["", "a", "ä", "€", "🛰", "a🛰"])
def test_whole_characters_counts_complete_text_whole(text: str) -> None:
    content = text.encode()
    assert whole_characters(content) == len(content)
    for cut in range(1, len(text[-1:].encode())):
        assert whole_characters(content[:-cut]) == len(text[:-1].encode())
