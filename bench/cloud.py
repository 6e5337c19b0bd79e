"""What the cloud side costs in time: cold starts, the API under Lambda's runtime client, the relay,
and the AWS calls of a run.

    sh tests/aws/setup.sh .venv/bin/python && .venv/bin/python bench/cloud.py [--only cold,api]

Deploys `template.yaml` on LocalStack as the tests do (`tests/aws`), with a database of its own and
the functions' packages built for this machine, then measures, each by itself:

- `cold`: from the start of a function's process until it asks for its first event (imports and
  init), and its first event; medians of `--runs` fresh processes. On Lambda the package comes from
  a disk of its own and the process has a share of a core by its memory.
- `api`: GET of an item and a search of 10, asked one after another: through the function's process
  (payload format 2.0 in, JSON out, no HTTP before it), and by HTTP from uvicorn on the same
  database. p50 and p95.
- `events`: how many runs' events a second go from the outbox through the relay to the bus, and how
  many messages a second `launch_run` handles in one process (its calls go to LocalStack).
- `calls`: AWS calls of one run, from its POST to its model, by function; what a run costs beside
  its machines. A schedule that ticks meanwhile is in it.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parents[1]))

from infra.local.postgres import Cluster
from mlops.api import Api
from stac_api.settings import Settings
from tests.aws import emulator
from tests.aws.by_hand import DRIVEN, by_hand, nudge, queue_json
from tests.aws.cloud import Cloud, wait_for
from tests.aws.cloud import cloud as deployed_cloud
from tests.aws.custom_resource import ask
from tests.aws.fake_engines import scripts
from tests.aws.outputs import document_at, hand_over
from tests.aws.packages import Packages, built
from tests.aws.scenarios import place_of
from tests.conftest import serving
from tests.integration.conftest import dataset_item, run_item

FUNCTIONS = (*DRIVEN, "RotateTokenSecret", "MigrateDatabase", "StacApi")
RUNS, DATA = "bench-training-runs", "bench-training-data"
EVENTS = 200


@contextlib.contextmanager
def database() -> Iterator[str]:
    """An empty database in a cluster of its own."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-bench-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.start()
        port = cluster.port()
        assert port is not None
        url = cluster.url(port)
        root, _, _ = url.rpartition("/")
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(f"{root}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        yield f"{root}/{name}"
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes a function")
    parser.add_argument("--requests", type=int, default=500, help="requests of each kind")
    parser.add_argument("--only", default="cold,api,events,calls")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reason = emulator.missing()
    if reason is not None:
        sys.exit(reason)
    wanted = arguments.only.split(",")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlops-bench-")))
        packages = built(folder)
        url = stack.enter_context(database())
        localstack = stack.enter_context(emulator.running())
        cloud = stack.enter_context(deployed_cloud(localstack, packages, url, "[]"))
        user = prepare(cloud)
        results: dict[str, Any] = {}
        if "calls" in wanted:
            results["calls"] = measure_calls(cloud, user)
        if "cold" in wanted:
            results["cold"] = measure_cold(cloud, packages, arguments.runs)
        if "api" in wanted:
            results["api"] = measure_api(cloud, arguments.requests, folder)
        if "events" in wanted:
            results["events"] = measure_events(cloud, user)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def prepare(cloud: Cloud) -> Api:
    """A workspace with a dataset; jobs that succeed."""
    user = cloud.user()
    user.request("POST", "/workspaces", json={"id": "bench"})
    user.create_item(DATA, dataset_item())

    def script(request: dict[str, Any]) -> scripts.Steps:
        hand_over(cloud.store, document_at(place_of(request), cloud.store))
        return scripts.sagemaker_success()

    cloud.fakes.sagemaker.script = script
    return user


def run(name: str) -> dict[str, Any]:
    """A run as a client posts it."""
    item = run_item(**{"mlops:compute": {"engine": "sagemaker"}})
    item["links"][0]["href"] = f"../../{DATA}/items/fields-v1"
    return {**item, "id": name}


def measure_calls(cloud: Cloud, user: Api) -> dict[str, Any]:
    """AWS calls of one run, when all functions are warm."""
    for name in ("warm", "counted"):
        before = len(cloud.localstack.calls.read_text().splitlines())
        item, _ = user.create_item(RUNS, run(name))
        properties = cloud.wait_for_status(item, "successful", "failed")
        assert properties["mlops:status"] == "successful", properties
        wait_for(lambda: not cloud.scheduler.is_armed or None, "the schedule to be disarmed")
    lines = cloud.localstack.calls.read_text().splitlines()[before:]
    functions = {cloud.stack.resources[f"{one}Function"]: one for one in FUNCTIONS}
    functions |= {f"{one}Function": one for one in FUNCTIONS}
    counts: Counter[tuple[str, str]] = Counter()
    for call in map(json.loads, lines):
        counts[functions[call["function"]], f"{call['service']} {call['operation']}"] += 1
    print(f"\nAWS calls of one run: {sum(counts.values())}")
    for (function, operation), count in sorted(counts.items()):
        print(f"  {function:18} {operation:36} {count:4}")
    return {f"{function} {operation}": n for (function, operation), n in sorted(counts.items())}


def measure_api(cloud: Cloud, requests: int, folder: Path) -> dict[str, Any]:
    """The API's function beside uvicorn."""
    search = {"collections": [RUNS], "limit": 10}
    user = cloud.user()
    for number in range(20):
        user.create_item(RUNS, run(f"seen-{number}"))
    asked = {
        "GET item": ("GET", f"/collections/{RUNS}/items/counted", None),
        "search 10": ("POST", "/search", search),
    }
    settings = Settings(
        database_url=SecretStr(cloud.database_url),
        storage=str(folder / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
    )
    results = {}
    print(f"\n{'API, ms':24} {'p50':>8} {'p95':>8}")
    with (
        cloud.process("StacApiFunction") as process,
        serving(settings) as url,
        httpx.Client(base_url=url) as http,
    ):
        for name, (method, path, body) in asked.items():

            def by_function(method: str = method, path: str = path, body: Any = body) -> int:
                answer = cloud.http_api.ask(process, method, path, body)
                return int(answer["statusCode"]) if answer else 500

            def by_uvicorn(method: str = method, path: str = path, body: Any = body) -> int:
                return http.request(method, path, json=body).status_code

            for where, call in (("runtime client", by_function), ("uvicorn", by_uvicorn)):
                p50, p95 = timed(call, requests)
                results[f"{name}, {where}"] = {"p50": p50, "p95": p95}
                print(f"{name + ', ' + where:24} {p50:8.2f} {p95:8.2f}")
    return results


def timed(call: Callable[[], int], requests: int) -> tuple[float, float]:
    """p50 and p95 of calls that all answer 200, in ms."""
    times = []
    for number in range(requests + 20):
        begin = time.perf_counter()
        status = call()
        elapsed = (time.perf_counter() - begin) * 1000
        assert status == 200, status
        if number >= 20:
            times.append(elapsed)
    return round(statistics.median(times), 2), round(statistics.quantiles(times, n=20)[-1], 2)


def measure_events(cloud: Cloud, user: Api) -> dict[str, Any]:
    """The relay, and `launch_run`, one process each."""
    cloud.fakes.deliver = lambda _events: []
    with by_hand(cloud) as hand:
        hand.relay()
        features = [run(f"event-{number}") for number in range(EVENTS)]
        collection = {"type": "FeatureCollection", "features": features}
        user.request("POST", f"/collections/{RUNS}/items", json=collection)
        begin = time.perf_counter()
        hand.deliver("RelayOutbox", nudge())
        relayed = EVENTS / (time.perf_counter() - begin)
        events = [hand.take("LaunchRun", f'"event-{number}"') for number in range(EVENTS)]
        with cloud.process("LaunchRunFunction") as process:
            process.invoke(queue_json(events[0]))
            begin = time.perf_counter()
            for start in range(0, EVENTS, 5):
                process.invoke(queue_json(*events[start : start + 5])).json()
            launched = EVENTS / (time.perf_counter() - begin)
    print(f"\nevents a second: relay {relayed:.0f}, launch_run {launched:.1f}")
    return {"relay": round(relayed, 1), "launch_run": round(launched, 1)}


def measure_cold(cloud: Cloud, packages: Packages, runs: int) -> dict[str, Any]:
    """Every function, from nothing."""
    results = {}
    print(f"\n{'cold start, s':20} {'init':>7} {'first':>7} {'package MB':>11}")
    for function in FUNCTIONS:
        name = f"{function}Function"
        inits, firsts = [], []
        for _ in range(runs):
            with cloud.process(name) as process:
                inits.append(process.init_seconds)
                begin = time.perf_counter()
                first_event(cloud, function, process)
                firsts.append(time.perf_counter() - begin)
        init, first = statistics.median(inits), statistics.median(firsts)
        megabytes = packages.sizes[name] / 1e6
        results[function] = {"init": round(init, 3), "first": round(first, 3), "mb": megabytes}
        print(f"{function:20} {init:7.2f} {first:7.2f} {megabytes:11.1f}")
    return results


def first_event(cloud: Cloud, function: str, process: Any) -> None:
    """An event that makes a function set up all that it has."""
    if function == "StacApi":
        answer = cloud.http_api.ask(process, "GET", f"/collections/{RUNS}/items/counted")
        assert answer is not None
    elif function == "MigrateDatabase":
        assert ask(process, "Update", Package="2")["Status"] == "SUCCESS"
    elif function == "RotateTokenSecret":
        secret = cloud.stack.resources["TokenSecret"]
        process.invoke({"SecretId": secret, "ClientRequestToken": "none", "Step": "testSecret"})
    else:
        process.invoke(queue_json(nudge()))


if __name__ == "__main__":
    # Presigned URLs and clients of this process need no profile of the user's.
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    main()
