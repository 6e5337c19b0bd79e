"""The local engine, with real processes."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlops.engines import JobSpec, JobState, Phase
from mlops.engines.local import LocalEngine
from mlops.jobs import JobDocument

PATIENCE = 30.0


def document(name: str) -> JobDocument:
    return JobDocument(
        name=name,
        workspace="alps",
        collection="alps-training-runs",
        item=name,
        attempt=1,
        api_url="http://localhost:1",
        storage_url="file:///nowhere",
        output_prefix=f"alps/training-runs/{name}/attempt-1/",
        model="m",
        task="classification",
        framework="pytorch",
        recipe="pixel-timeseries",
        hyperparameters={},
        objective_metric="f1",
        objective_goal="maximize",
        datasets=[],
        max_runtime=60,
    )


def spec(name: str, max_runtime: int = 60, **secrets: str) -> JobSpec:
    return JobSpec(name, document(name), max_runtime=max_runtime, secrets=secrets)


class Bench:
    """A folder of jobs whose program is a Python script, and what the engine said of them."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp = tmp_path
        self.folder = tmp_path / "jobs"
        self.ends: queue.Queue[tuple[str, JobState]] = queue.Queue()
        self.engines: list[LocalEngine] = []
        self.fifos = 0

    def script(self, source: str) -> Path:
        path = self.tmp / "job.py"
        path.write_text("import os, signal, sys, time\n" + textwrap.dedent(source))
        return path

    def engine(
        self, source: str, slots: int = 2, grace: float = 0.3, on_change: object = None
    ) -> LocalEngine:
        told = on_change or (lambda doc, state: self.ends.put((doc.name, state)))
        command = [sys.executable, str(self.script(source))]
        engine = LocalEngine(self.folder, slots, told, grace=grace, command=command)  # type: ignore[arg-type]
        self.engines.append(engine)
        return engine

    def end(self) -> tuple[str, JobState]:
        return self.ends.get(timeout=PATIENCE)

    def fifo(self, name: str) -> Path:
        path = self.tmp / name
        os.mkfifo(path)
        return path

    def runner(self, name: str) -> psutil.Process:
        content = json.loads((self.folder / name / "runner.json").read_text())
        return psutil.Process(content["pid"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for engine in bench.engines:
        engine.close()
    for process in processes_of(bench.folder):
        process.kill()


def processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get("MLOPS_JOB_FOLDER", "").startswith(f"{folder}/"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def says_pid(fifo: Path) -> int:
    """Wait until a process writes its id to ``fifo``."""
    return int(fifo.read_text())


def test_a_job_that_ends_well(bench: Bench) -> None:
    engine = bench.engine(
        """
        print("out")
        print("err", file=sys.stderr)
        assert open(os.environ["MLOPS_JOB"]).read().startswith("{")
        """
    )
    handle = engine.start(spec("good"))
    name, state = bench.end()
    assert name == handle.id == "good"
    assert state.phase is Phase.SUCCEEDED
    assert state.exit_code == 0
    assert state.reason is None
    assert state.started is not None
    assert state.finished is not None
    assert state.billed_seconds is not None
    assert 0 < state.billed_seconds < PATIENCE
    assert engine.describe("good") == state
    assert (bench.folder / "good" / "stdout.log").read_text() == "out\n"
    assert (bench.folder / "good" / "stderr.log").read_text() == "err\n"
    assert (bench.folder / "good").stat().st_mode & 0o777 == 0o700
    assert json.loads((bench.folder / "good" / "exit.json").read_text())["peak_rss"] > 1 << 20


@pytest.mark.parametrize(
    ("code", "word", "retryable"), [(1, "log", False), (2, "data", False), (3, "platform", True)]
)
def test_exit_codes_have_reasons(bench: Bench, code: int, word: str, retryable: bool) -> None:
    bench.engine(f"sys.exit({code})").start(spec("bad"))
    _, state = bench.end()
    assert (state.phase, state.exit_code, state.retryable) == (Phase.FAILED, code, retryable)
    assert state.reason is not None
    assert word in state.reason


def test_a_program_that_is_not_there(bench: Bench) -> None:
    told = lambda doc, state: bench.ends.put((doc.name, state))  # noqa: E731
    engine = LocalEngine(bench.folder, 1, told, command=["/nowhere/python"])
    bench.engines.append(engine)
    engine.start(spec("none"))
    _, state = bench.end()
    assert state.phase is Phase.FAILED
    assert "/nowhere/python" in str(state.reason)


def test_secrets_reach_the_job_and_the_services_own_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_SECRET", "of the service")
    engine = bench.engine(
        """
        print(os.environ["MLOPS_RUN_TOKEN"], "MLOPS_SECRET" in os.environ, "PATH" in os.environ)
        """
    )
    engine.start(spec("keeps", MLOPS_RUN_TOKEN="t0ken"))
    assert bench.end()[1].phase is Phase.SUCCEEDED
    assert (bench.folder / "keeps" / "stdout.log").read_text() == "t0ken False True\n"
    (bench.folder / "keeps" / "stdout.log").unlink()
    for path in (bench.folder / "keeps").iterdir():
        assert "t0ken" not in path.read_text(), path


def test_a_queued_jobs_secrets_are_readable_by_their_owner_only(bench: Bench) -> None:
    fifo = bench.fifo("go")
    engine = bench.engine(f"open({str(fifo)!r}).read()", slots=1)
    engine.start(spec("first"))
    engine.start(spec("second", MLOPS_RUN_TOKEN="t0ken"))
    assert engine.describe("second").phase is Phase.QUEUED
    assert (bench.folder / "second" / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_the_same_name_twice_is_the_same_job(bench: Bench) -> None:
    engine = bench.engine(f"open({str(bench.tmp / 'ran')!r}, 'a').write('x')", slots=4)
    threads = [threading.Thread(target=engine.start, args=(spec("once"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.end()
    assert engine.start(spec("once")).id == "once"
    assert engine.describe("once").phase is Phase.SUCCEEDED
    assert (bench.tmp / "ran").read_text() == "x"
    assert bench.ends.empty()


def test_slots_bound_what_runs_and_the_rest_keeps_its_order(bench: Bench) -> None:
    log = bench.tmp / "order"
    engine = bench.engine(
        f"""
        name = os.path.basename(os.getcwd())
        with open({str(log)!r}, "a") as file:
            file.write(name + " ")
        """,
        slots=1,
    )
    names = [f"job-{n}" for n in range(6)]
    for name in names:
        engine.start(spec(name))
    assert [bench.end()[0] for _ in names] == names
    assert log.read_text().split() == names


def test_no_more_jobs_than_slots_run_at_once(bench: Bench) -> None:
    fifo, go = bench.fifo("pid"), bench.fifo("go")
    engine = bench.engine(
        f"""
        open({str(fifo)!r}, "w").write(str(os.getpid()))
        open({str(go)!r}).read()
        """,
        slots=2,
    )
    for name in ("a", "b", "c"):
        engine.start(spec(name))
    says_pid(fifo)
    phases = [engine.describe(name).phase for name in ("a", "b", "c")]
    assert phases[2] is Phase.QUEUED
    assert Phase.QUEUED in phases


def test_a_killed_job_has_a_reason(bench: Bench) -> None:
    bench.engine("os.kill(os.getpid(), signal.SIGKILL)").start(spec("killed"))
    _, state = bench.end()
    assert state.phase is Phase.FAILED
    assert state.exit_code is None
    assert not state.retryable
    assert "signal 9 (SIGKILL)" in str(state.reason)
    assert "memory" in str(state.reason)


FAMILY = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        time.sleep(600)
    open({fifo!r}, "w").write(str(os.getpid()))
    time.sleep(600)
"""
"""Ignores SIGTERM; has a child, and a grandchild that left session and group."""


def family(bench: Bench, engine_options: dict[str, float] | None = None) -> LocalEngine:
    """An engine with one running job of three processes."""
    fifo = bench.fifo("pid")
    engine = bench.engine(FAMILY.format(fifo=str(fifo)), **(engine_options or {}))  # type: ignore[arg-type]
    engine.start(spec("family"))
    says_pid(fifo)
    return engine


def test_stop_ends_all_that_a_stubborn_job_started(bench: Bench) -> None:
    engine = family(bench)
    running = processes_of(bench.folder)
    assert len(running) >= 3
    assert engine.describe("family").phase is Phase.RUNNING
    engine.stop("family")
    engine.stop("family")
    _, state = bench.end()
    assert (state.phase, state.exit_code, state.retryable) == (Phase.STOPPED, None, False)
    assert processes_of(bench.folder) == []
    engine.stop("family")
    assert engine.describe("family") == state


def test_a_job_may_save_its_work_when_stopped(bench: Bench) -> None:
    fifo, saved = bench.fifo("pid"), bench.tmp / "saved"
    engine = bench.engine(
        f"""
        def save(*_):
            open({str(saved)!r}, "w").write("all")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        open({str(fifo)!r}, "w").write(str(os.getpid()))
        time.sleep(600)
        """,
        grace=PATIENCE,
    )
    engine.start(spec("saves"))
    says_pid(fifo)
    engine.stop("saves")
    assert bench.end()[1].phase is Phase.STOPPED
    assert saved.read_text() == "all"


def test_stopping_a_queued_job_ends_it(bench: Bench) -> None:
    go = bench.fifo("go")
    engine = bench.engine(f"open({str(go)!r}).read()", slots=1)
    engine.start(spec("first"))
    engine.start(spec("second", MLOPS_RUN_TOKEN="t0ken"))
    engine.stop("second")
    name, state = bench.end()
    assert (name, state.phase, state.started) == ("second", Phase.STOPPED, None)
    assert not (bench.folder / "second" / "secrets.json").exists()


@pytest.mark.parametrize("moment", range(5))
def test_a_stop_right_after_the_start_is_not_lost(bench: Bench, moment: int) -> None:
    engine = bench.engine("time.sleep(600)")
    engine.start(spec("brief"))
    threading.Event().wait(moment * 0.01)
    engine.stop("brief")
    assert bench.end()[1].phase is Phase.STOPPED
    assert processes_of(bench.folder) == []


def test_the_time_limit(bench: Bench) -> None:
    bench.engine("time.sleep(600)").start(spec("long", max_runtime=1))
    _, state = bench.end()
    assert (state.phase, state.exit_code, state.retryable) == (Phase.FAILED, None, False)
    assert "time limit" in str(state.reason)


def test_what_a_job_leaves_behind_ends_with_it(bench: Bench) -> None:
    bench.engine("if os.fork() == 0: time.sleep(600)").start(spec("leaves"))
    assert bench.end()[1].phase is Phase.SUCCEEDED
    assert processes_of(bench.folder) == []


def test_a_killed_runner_loses_the_job_and_its_processes(bench: Bench) -> None:
    family(bench)
    bench.runner("family").kill()
    _, state = bench.end()
    assert (state.phase, state.retryable) == (Phase.LOST, True)
    assert processes_of(bench.folder) == []


def test_runner_and_job_killed_together(bench: Bench) -> None:
    """What the job started is ended too, although neither is there to do it."""
    fifo = bench.fifo("pid")
    engine = bench.engine(
        f"""
        import subprocess
        del os.environ["MLOPS_JOB"]
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(fifo)!r}, "w").write(str(os.getpid()))
        time.sleep(600)
        """
    )
    engine.start(spec("both"))
    job = psutil.Process(says_pid(fifo))
    (child,) = job.children()
    runner = bench.runner("both")
    runner.suspend()
    job.kill()
    runner.kill()
    assert bench.end()[1].phase is Phase.LOST
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


SERVICE = """
import sys
from pathlib import Path
from mlops.engines import JobSpec
from mlops.engines.local import LocalEngine
from mlops.jobs import JobDocument

folder, script, slots, *names = sys.argv[1:]
engine = LocalEngine(
    Path(folder), int(slots), lambda *_: None, grace=0.3, command=[sys.executable, script]
)
template = sys.stdin.read()
for name in names:
    document = JobDocument.model_validate_json(template.replace("NAME", name))
    engine.start(JobSpec(name, document, 60, {"MLOPS_RUN_TOKEN": "t"}))
print("started", flush=True)
import threading
threading.Event().wait()
"""


def killed_service(bench: Bench, source: str, slots: int, *names: str, ready: Path) -> None:
    """A service that starts jobs and is killed as soon as ``ready`` says that one runs."""
    script = bench.script(source)
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(bench.folder), str(script), str(slots), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert service.stdin is not None
    assert service.stdout is not None
    service.stdin.write(document("NAME").model_dump_json())
    service.stdin.close()
    assert service.stdout.readline() == "started\n"
    says_pid(ready)
    service.kill()
    service.wait()
    service.stdout.close()


def waiting_job(bench: Bench) -> tuple[str, Path, Path]:
    """A program that says that it runs, and ends with code 0 when it is told to go."""
    ready, go = bench.fifo("ready"), bench.fifo("go")
    source = f"""
        open({str(ready)!r}, "w").write(str(os.getpid()))
        open({str(go)!r}).read()
        """
    return source, ready, go


def test_a_job_that_runs_on_is_found_again(bench: Bench) -> None:
    source, ready, go = waiting_job(bench)
    killed_service(bench, source, 1, "survivor", ready=ready)
    engine = bench.engine(source)
    engine.recover()
    assert engine.describe("survivor").phase is Phase.RUNNING
    assert bench.ends.empty()
    go.write_text("go")
    name, state = bench.end()
    assert (name, state.phase, state.exit_code) == ("survivor", Phase.SUCCEEDED, 0)


def test_a_job_that_ended_meanwhile_is_told_once(bench: Bench) -> None:
    source, ready, go = waiting_job(bench)
    killed_service(bench, source, 1, "meanwhile", ready=ready)
    runner = bench.runner("meanwhile")
    go.write_text("go")
    runner.wait(PATIENCE)
    bench.engine(source).recover()
    name, state = bench.end()
    assert (name, state.phase) == ("meanwhile", Phase.SUCCEEDED)
    wait_until((bench.folder / "meanwhile" / "acknowledged").exists)
    bench.engine(source).recover()
    assert bench.ends.empty()


def test_a_recovered_job_can_be_stopped(bench: Bench) -> None:
    source, ready, _ = waiting_job(bench)
    killed_service(bench, source, 1, "found", ready=ready)
    engine = bench.engine(source)
    engine.recover()
    engine.stop("found")
    assert bench.end()[1].phase is Phase.STOPPED
    assert processes_of(bench.folder) == []


def test_a_job_lost_while_the_service_was_away(bench: Bench) -> None:
    fifo = bench.fifo("pid")
    source = FAMILY.format(fifo=str(fifo))
    killed_service(bench, source, 1, "family", ready=fifo)
    runner = bench.runner("family")
    runner.kill()
    # Its parent is gone, so nobody but init can wait for it.
    psutil.wait_procs([runner], timeout=PATIENCE)
    assert len(processes_of(bench.folder)) >= 3
    engine = bench.engine(source)
    engine.recover()
    assert bench.end()[1].phase is Phase.LOST
    assert processes_of(bench.folder) == []


def test_the_queue_survives_in_its_order(bench: Bench) -> None:
    source, ready, go = waiting_job(bench)
    names = ["one", "two", "three"]
    killed_service(bench, source, 1, *names, ready=ready)
    engine = bench.engine(source, slots=1)
    engine.recover()
    assert [engine.describe(name).phase for name in names] == [
        Phase.RUNNING,
        Phase.QUEUED,
        Phase.QUEUED,
    ]
    go.write_text("go")
    ended = [bench.end()[0]]
    for _ in names[1:]:
        says_pid(ready)
        go.write_text("go")
        ended.append(bench.end()[0])
    assert ended == names


def test_an_end_that_could_not_be_told_is_told_again(bench: Bench) -> None:
    refused = threading.Event()

    def away(*_: object) -> None:
        refused.set()
        raise ConnectionError("the record is away")

    first = bench.engine("pass", on_change=away)
    first.start(spec("untold"))
    assert refused.wait(PATIENCE)
    first.close()
    assert not (bench.folder / "untold" / "acknowledged").exists()
    bench.engine("pass").recover()
    assert bench.end()[0] == "untold"


def test_the_work_folder_is_removed_at_the_end(bench: Bench) -> None:
    bench.engine(
        """
        os.makedirs(os.environ["MLOPS_WORK_DIR"] + "/input")
        open(os.environ["MLOPS_WORK_DIR"] + "/input/blob", "w").write("staged")
        """
    ).start(spec("staged"))
    assert bench.end()[1].phase is Phase.SUCCEEDED
    wait_until((bench.folder / "staged" / "acknowledged").exists)
    assert not (bench.folder / "staged" / "work").exists()


def test_unknown_jobs(bench: Bench) -> None:
    engine = bench.engine("pass")
    for name in ("nothing", "../jobs", "", "a/b", "a" * 500):
        assert engine.describe(name).phase is Phase.UNKNOWN
        engine.stop(name)
    with pytest.raises(ValueError, match="not valid"):
        engine.start(spec("../escape"))


def test_a_half_made_job_is_removed(bench: Bench) -> None:
    engine = bench.engine("pass")
    (bench.folder / ".new-0123").mkdir()
    engine.recover()
    assert list(bench.folder.iterdir()) == []


def test_the_runner_is_small(bench: Bench) -> None:
    source, ready, go = waiting_job(bench)
    bench.engine(source).start(spec("small"))
    says_pid(ready)
    assert bench.runner("small").memory_info().rss < 16 << 20
    go.write_text("go")
    bench.end()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    ticker = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        ticker.wait(0.01)
    raise AssertionError("it did not come true")


def test_the_signal_of_a_reused_process_id_goes_nowhere(bench: Bench) -> None:
    engine = bench.engine("time.sleep(600)")
    engine.start(spec("gone"))
    wait_until((bench.folder / "gone" / "runner.json").exists)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        engine.stop("gone")
        bench.end()
        job = bench.folder / "gone"
        (job / "exit.json").unlink()
        (job / "acknowledged").unlink(missing_ok=True)
        (job / "runner.json").write_text(json.dumps({"pid": bystander.pid, "started": 0}))
        engine.stop("gone")
        bench.engine("pass").recover()
        assert bench.end()[1].phase is Phase.LOST
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()
