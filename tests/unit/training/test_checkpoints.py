"""What a job keeps in the object store for the next one."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.storage.folder import FolderStore
from training import checkpoints
from training.checkpoints import Checkpoints, KeptFile
from training.contract import WorkFolders
from training.outputs import find_outputs, read_metrics
from training.staging import StoppedError

PREFIX = "_checkpoints/alps/first/"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.05)
    monkeypatch.setattr(checkpoints, "_KEEP_SECONDS", 0.05)


class Job:
    """A container with a checkpoint folder."""

    def __init__(self, root: Path, store: FolderStore | None) -> None:
        self.folders = WorkFolders(root)
        self.folders.create()
        self.notes: list[str] = []
        self.checkpoints = Checkpoints(self.folders, store, PREFIX, self.notes.append)
        self.never = threading.Event()

    def write(self, name: str, content: bytes) -> Path:
        path = self.folders.checkpoints / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def start(tmp_path: Path, store: FolderStore) -> Callable[[str], Job]:
    return lambda name: Job(tmp_path / name, store)


def eventually(check: Callable[[], bool]) -> None:
    for _ in range(400):
        if check():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not happen")


def test_the_next_container_goes_on(start: Callable[[str], Job], store: FolderStore) -> None:
    first = start("one")
    first.checkpoints.restore(first.never)
    first.checkpoints.keep(1)
    first.folders.metrics.write_text('{"name": "loss", "step": 1, "value": 1}\n{"name": "lo')
    first.folders.log.write_text("epoch 1\n")
    first.write("deep/state.bin", b"one")
    eventually(lambda: store.size(f"{PREFIX}deep/state.bin") == 3)
    # It was taken away without a word: no close().

    second = start("two")
    second.checkpoints.restore(second.never)
    metrics, log = second.checkpoints.keep(1)
    assert (second.folders.checkpoints / "deep" / "state.bin").read_bytes() == b"one"
    second.folders.metrics.write_text('{"name": "loss", "step": 2, "value": 2}\n')
    second.folders.log.write_text("epoch 2\n")
    second.checkpoints.close()
    points = read_metrics(metrics.path, metrics.earlier)
    assert [(point.step, point.value) for point in points] == [(1, 1), (2, 2)]
    assert log.path.read_text() == "epoch 1\nepoch 2\n"
    named = {output.name for output in find_outputs(second.folders, log.path, None)}
    assert named == {"log.txt", "metrics.parquet", "checkpoints/deep/state.bin"}

    second.checkpoints.forget()
    assert list(store.keys(PREFIX)) == []


def test_what_was_trained_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    earlier = "".join(f'{{"name": "loss", "step": {n}, "value": {n}}}\n' for n in (1, 2, 3))
    again = "".join(f'{{"name": "loss", "step": {n}, "value": {n * 10}}}\n' for n in (3, 4, 4))
    path.write_text(earlier + again)

    points = read_metrics(path, len(earlier))
    assert [(p.step, p.value) for p in points] == [(1, 1), (2, 2), (3, 30), (4, 40), (4, 40)]


def test_the_log_of_another_attempt_is_not_this_ones(start: Callable[[str], Job]) -> None:
    first = start("one")
    first.checkpoints.keep(1)
    first.folders.log.write_text("of the first\n")
    first.checkpoints.close()
    second = start("two")
    second.checkpoints.restore(second.never)
    _, log = second.checkpoints.keep(2)
    second.folders.log.write_text("of the second\n")
    second.checkpoints.close()
    assert log.path.read_text() == "of the second\n"


def test_a_file_that_grows_is_left_until_it_rests(
    start: Callable[[str], Job], store: FolderStore
) -> None:
    job = start("one")
    job.checkpoints.keep(1)
    growing = job.write("big.bin", b"")
    for _ in range(20):
        with growing.open("ab") as file:
            file.write(b"x" * 100)
        threading.Event().wait(0.02)
        assert store.size(f"{PREFIX}big.bin") in (None, 0)
    eventually(lambda: store.size(f"{PREFIX}big.bin") == 2000)
    job.checkpoints.close()


def test_a_file_that_is_replaced_time_and_again_is_stored(
    start: Callable[[str], Job], store: FolderStore
) -> None:
    """As a training does whose epochs are short: it never rests, and is always whole."""
    job = start("one")
    job.checkpoints.keep(1)
    stored: set[bytes] = set()
    for number in range(100):
        part = job.write(".part-state", b"%03d" % number * 1000)
        part.replace(job.folders.checkpoints / "state")
        threading.Event().wait(0.01)
        if store.size(f"{PREFIX}state"):
            content = store.get_bytes(f"{PREFIX}state", 10_000)
            assert content == content[:3] * 1000
            stored.add(content)
    assert len(stored) > 2
    job.checkpoints.close()
    assert store.get_bytes(f"{PREFIX}state", 10_000) == b"099" * 1000
    assert not any(".part-" in key for key in store.keys(PREFIX))


def test_where_the_platform_copies_the_agent_only_keeps(tmp_path: Path, store: FolderStore) -> None:
    job = Job(tmp_path / "one", None)
    job.checkpoints.restore(job.never)
    metrics, _ = job.checkpoints.keep(1)
    job.folders.metrics.write_text("{}\n")
    eventually(lambda: metrics.path.read_text() == "{}\n")
    job.checkpoints.close()
    job.checkpoints.forget()
    assert list(store.keys("")) == []


def test_a_store_that_is_away_does_not_end_the_training(
    start: Callable[[str], Job], store: FolderStore
) -> None:
    job = start("one")
    job.checkpoints.keep(1)
    moved = store.folder.rename(store.folder.with_name("away"))
    store.folder.write_text("no folder")
    job.write("state", b"1")
    eventually(lambda: bool(job.notes))
    assert "could not be kept" in job.notes[0]
    store.folder.unlink()
    moved.rename(store.folder)
    job.checkpoints.close()
    assert store.get_bytes(f"{PREFIX}state", 10) == b"1"


def test_bringing_back_stops_when_the_job_does(
    start: Callable[[str], Job], store: FolderStore
) -> None:
    store.put_bytes(f"{PREFIX}state", b"1")
    job = start("one")
    job.never.set()
    with pytest.raises(StoppedError):
        job.checkpoints.restore(job.never)


def test_an_agent_started_anew_on_the_same_disk_keeps_each_line_once(tmp_path: Path) -> None:
    source, kept = tmp_path / "log.txt", tmp_path / "kept" / "log.txt"
    first = KeptFile(source, kept)
    source.write_text("one\n")
    first.save()
    second = KeptFile(source, kept)
    with source.open("a") as file:
        file.write("two\n")
    second.save()
    assert kept.read_text() == "one\ntwo\n"
    os.truncate(kept, 6)
    assert KeptFile(source, kept).earlier == 4
