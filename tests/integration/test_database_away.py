"""The database is killed under load and comes back: what was acknowledged is there, and the API
needs no restart."""

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from pydantic import SecretStr

from infra.local.postgres import Cluster
from stac_api.aws_lambda import LambdaApi
from stac_api.migrate import migrate
from stac_api.settings import Settings
from tests.conftest import ApiServer, serving
from tests.integration.conftest import dataset_item, run_item
from tests.integration.test_aws_lambda import event

CLIENTS = 16
RUNS = "/collections/alps-training-runs/items"
API_GATEWAY_WAITS = 29
"""Seconds until API Gateway answers in a function's place."""
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster for one test, which kills it."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-away-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        migrate(cluster.start())
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def kill(cluster: Cluster) -> None:
    """SIGKILL to the postmaster and all that it started, as when a machine loses its memory."""
    pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    # The postmaster first: it must not tell the others, nor mend what it loses.
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


@dataclass
class Load:
    """Clients that create runs and change them, and remember what was acknowledged."""

    url: str
    created: set[str] = field(default_factory=set)
    titles: dict[str, str] = field(default_factory=dict)
    """The last title of each run that was acknowledged."""
    uncertain: dict[str, set[str]] = field(default_factory=dict)
    """Titles that were sent and not acknowledged, since the last that was."""
    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, number: int) -> None:
        """One client: create a run, change its title twice, read it; again and again."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for count in itertools.count():
                if self.stopping.is_set():
                    return
                name = f"run-{number}-{count}"
                if not self._create(client, name):
                    continue
                for change in ("first", "second"):
                    self._change(client, name, f"{change} of {name}")
                self._send(client, "GET", f"{RUNS}/{name}")

    def _create(self, client: httpx.Client, name: str) -> bool:
        answer = self._send(client, "POST", RUNS, json={**run_item(), "id": name})
        if answer is None or answer.status_code != 201:
            return False
        with self._lock:
            self.created.add(name)
        return True

    def _change(self, client: httpx.Client, name: str, title: str) -> None:
        patch = {"properties": {"title": title}}
        answer = self._send(client, "PATCH", f"{RUNS}/{name}", json=patch, headers=MERGE_PATCH)
        if answer is not None and answer.status_code == 204:
            self.titles[name] = title
            self.uncertain.pop(name, None)
        else:
            self.uncertain.setdefault(name, set()).add(title)

    def _send(self, client: httpx.Client, *arguments: Any, **kwargs: Any) -> httpx.Response | None:
        try:
            answer = client.request(*arguments, **kwargs)
        except httpx.TransportError as error:
            # The API itself must stay: a connection that breaks is a fault of its own.
            self.faults.append(f"{type(error).__name__}: {error}")
            return None
        with self._lock:
            self.answers[answer.status_code] += 1
        if answer.status_code not in (200, 201, 204, 503):
            self.faults.append(f"{answer.status_code}: {answer.text}")
        if answer.status_code == 503:
            if "Retry-After" not in answer.headers:
                self.faults.append("503 without Retry-After")
            time.sleep(0.05)
        return answer


def wait_until_ready(url: str) -> float:
    begin = time.monotonic()
    while time.monotonic() - begin < 60:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz/ready").is_success:
                return time.monotonic() - begin
        time.sleep(0.02)
    pytest.fail("the API did not come back within a minute")


def test_killed_under_load_and_restarted(own_cluster: Cluster, tmp_path: Path) -> None:
    port = own_cluster.port()
    assert port is not None
    settings = Settings(
        database_url=SecretStr(own_cluster.url(port)),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
    )
    with serving(settings) as url:
        httpx.post(f"{url}/workspaces", json={"id": "alps"}).raise_for_status()
        dataset = httpx.post(f"{url}/collections/alps-training-data/items", json=dataset_item())
        dataset.raise_for_status()
        load = Load(url)
        threads = [threading.Thread(target=load.work, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                time.sleep(2)
                kill(own_cluster)
                away = httpx.get(f"{url}/healthz/ready")
                assert away.status_code == 503
                assert httpx.get(f"{url}/healthz/live").status_code == 200
                time.sleep(1)
                assert own_cluster.revive()
                assert own_cluster.port() == port
                wait_until_ready(url)
            time.sleep(2)
        finally:
            load.stopping.set()
            for thread in threads:
                thread.join(60)
        assert not load.faults, load.faults[:5]
        assert load.answers[503] > 0, "nothing was refused: the fault was not felt"
        check(load, own_cluster.url(port))


@contextlib.contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    """The server takes what is sent to it and answers nothing, as one does that is cut off."""
    pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def test_a_function_that_slept_does_not_wait_for_a_new_connection(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    port = own_cluster.port()
    assert port is not None
    settings = Settings(
        database_url=SecretStr(own_cluster.url(port)),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
        pool_patience_seconds=2,
    )
    api, read = LambdaApi(settings), event("GET", "/collections")
    try:
        assert api(read, None)["statusCode"] == 200
        with frozen(own_cluster):
            api.distrust_connections()
            begin = time.monotonic()
            assert api(read, None)["statusCode"] == 503
            assert time.monotonic() - begin < API_GATEWAY_WAITS
        assert api(read, None)["statusCode"] == 200
    finally:
        api.close()


@pytest.mark.parametrize("what", ["password", "database", "secret"])
def test_nobody_gets_in(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """As while a password is rotated, a database restored, or Secrets Manager away."""
    assert api_server.settings.database_url is not None
    url = api_server.settings.database_url.get_secret_value()
    changes: dict[str, Any] = {
        "password": {"database_url": SecretStr(url.replace("@", "x@"))},
        "database": {"database_url": SecretStr(f"{url}_none")},
        "secret": {
            "database_url": None,
            "database_secret_arn": "arn:aws:secretsmanager:eu-west-1:000000000000:secret:s",
        },
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serving(api_server.settings.model_copy(update=changes[what])) as away:
        for path in ("/collections", "/healthz/ready"):
            answer = httpx.get(away + path, timeout=30)
            assert answer.status_code == 503, answer.text
            assert "Retry-After" in answer.headers


def test_who_asks_a_database_that_answers_nothing_is_told_in_time(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    port = own_cluster.port()
    assert port is not None
    settings = Settings(
        database_url=SecretStr(own_cluster.url(port)),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
        statement_timeout_seconds=1,
        pool_patience_seconds=2,
    )
    dataset = "/collections/alps-training-data/items/fields-v1"
    patch = {"properties": {"title": "said into the void"}}
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/healthz/ready", None),
        ("GET", dataset, None),
        ("PATCH", dataset, patch),
        ("DELETE", dataset, None),
    ]
    with serving(settings) as url, ThreadPoolExecutor(len(asked)) as threads:
        httpx.post(f"{url}/workspaces", json={"id": "alps"}).raise_for_status()
        httpx.post(
            f"{url}/collections/alps-training-data/items", json=dataset_item()
        ).raise_for_status()

        # These clients wait for longer than the API waits for its database, which is six seconds,
        # and for less than twice that.
        def send(method: str, path: str, body: Any) -> int:
            headers = {} if body is None else MERGE_PATCH
            answer = httpx.request(method, url + path, json=body, headers=headers, timeout=11)
            assert "Retry-After" in answer.headers
            return answer.status_code

        def hold_a_connection() -> None:
            with psycopg.connect(own_cluster.url(port)) as holder:
                holder.execute("SELECT FROM pgstac.items FOR UPDATE")
                time.sleep(0.5)

        # So that there is an open connection for each: with none a request does not get as far.
        holding = threads.submit(hold_a_connection)
        time.sleep(0.2)
        warm = {"properties": {"title": "waits"}}
        waiting = [
            threads.submit(httpx.patch, url + dataset, json=warm, headers=MERGE_PATCH)
            for _ in range(len(asked) - 1)
        ]
        httpx.get(f"{url}/healthz/ready").raise_for_status()
        for done in waiting:
            done.result().raise_for_status()
        holding.result()
        with frozen(own_cluster):
            told = list(threads.map(lambda one: send(*one), asked))
        assert set(told) == {503}
        wait_until_ready(url)
        assert httpx.patch(url + dataset, json=patch, headers=MERGE_PATCH).status_code == 204
        assert httpx.delete(url + dataset).status_code == 204


def check(load: Load, database_url: str) -> None:
    """What was acknowledged is there, as it was acknowledged, with its one event."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT id, content->'properties'->>'title' FROM pgstac.items"
            " WHERE collection = 'alps-training-runs'"
        ).fetchall()
        events = connection.execute(
            "SELECT item, count(*) FROM mlops.outbox WHERE detail_type = 'run.accepted'"
            " GROUP BY item"
        ).fetchall()
    stored = dict(rows)
    assert load.created <= stored.keys()
    # What was not acknowledged may be there: at most what each client had in flight at a kill.
    assert len(stored.keys() - load.created) <= 2 * CLIENTS
    for name, title in load.titles.items():
        assert stored[name] in {title, *load.uncertain.get(name, ())}
    assert dict(events) == dict.fromkeys(stored, 1)
    print(
        f"{len(load.created)} runs and {len(load.titles)} changes acknowledged, "
        f"{len(stored)} runs stored; answers {dict(load.answers)}"
    )
