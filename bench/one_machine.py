"""How long one machine takes for what its user waits for, and what it costs while idle.

    .venv/bin/python bench/one_machine.py [--runs 5]

Medians of whole processes, in a fresh home below the temporary folder; nothing else should run.
Start times are from the command to the first answer of /healthz. A run's times come from the
clocks of the job's own processes: the job's runner says when it started the job and when it ended.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.local.postgres import Cluster
from mlops.datasets.synthetic import write_synthetic
from mlops.sdk import Client

MLOPS = [sys.executable, "-m", "cli.main"]


class Stack:
    def __init__(self, home: Path) -> None:
        self.home = home

    def up(self) -> float:
        """Start the service; seconds until it answers."""
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [*MLOPS, "up", "--home", str(self.home), "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        endpoint = self.home / "endpoint.json"
        while True:
            if self.process.poll() is not None:
                sys.exit("the service did not start")
            if endpoint.exists():
                self.url = json.loads(endpoint.read_text())["url"]
                if httpx.get(f"{self.url}/healthz").is_success:
                    return time.perf_counter() - begin
            time.sleep(0.01)

    def down(self) -> None:
        self.process.terminate()
        self.process.wait()

    def memory(self) -> dict[str, float]:
        """Proportional set size in MB: memory that processes share is counted once."""
        service = psutil.Process(self.process.pid)
        server = psutil.Process(
            int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        )
        return {
            "service": sum(pss(p) for p in (service, *service.children(recursive=True))),
            "postgresql": sum(pss(p) for p in (server, *server.children(recursive=True))),
        }


def pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / 2**20


def time_run(stack: Stack, client: Client, number: int) -> tuple[float, float]:
    """Seconds from POST to the job's process, and from the job's end to the visible model."""
    posted = time.time()
    run = client.runs.train(
        model=f"bench-{number}",
        recipe="pixel-timeseries",
        data=["bench"],
        hyperparameters={"epochs": 1, "max_pixels": 500},
    )
    url = f"{stack.url}/collections/bench-training-runs/items/{run.id}"
    item: dict[str, Any] = {}
    while not any(link["rel"] == "model" for link in item.get("links", [])):
        time.sleep(0.01)
        item = httpx.get(url).json()
        if item["properties"]["mlops:status"] == "failed":
            sys.exit(f"the run failed: {item['properties']['mlops:exit']}")
    visible = time.time()
    folder = stack.home / "jobs" / item["properties"]["mlops:job"]["id"]
    started = json.loads((folder / "runner.json").read_text())["started"]
    finished = json.loads((folder / "exit.json").read_text())["finished"]
    return started - posted, visible - finished


def time_command(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    count = parser.parse_args().runs
    home = Path(tempfile.mkdtemp(prefix="mlops-bench-"))
    home.chmod(0o755)
    stack = Stack(home)
    try:
        print(f"cold start of `mlops up`, s          {stack.up():6.2f}  (one)")
        stack.down()
        warm = []
        for _ in range(count):
            warm.append(stack.up())
            stack.down()
        print(f"warm start, s                        {statistics.median(warm):6.2f}  of {count}")
        stack.up()
        time.sleep(3)
        report_memory("memory, idle after a start", stack.memory())
        client = Client(stack.url)
        client.workspaces.create("bench")
        write_synthetic(home / "sample")
        client.data.push(home / "sample", dataset="bench")
        times = [time_run(stack, client, number) for number in range(count)]
        start = statistics.median(first for first, _ in times)
        end = statistics.median(second for _, second in times)
        print(f"POST run to job process, s           {start:6.2f}  of {count}")
        print(f"end of job to visible model, s       {end:6.2f}  of {count}")
        report_memory(f"memory, idle after {count} runs", stack.memory())
        mlops = str(Path(sys.executable).with_name("mlops"))
        helps = [time_command(mlops, "--help") for _ in range(count)]
        print(f"`mlops --help`, s                    {statistics.median(helps):6.2f}  of {count}")
        print(f"on {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    finally:
        stack.down()
        Cluster(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def report_memory(what: str, memory: dict[str, float]) -> None:
    parts = ", ".join(f"{name} {size:.0f}" for name, size in memory.items())
    print(f"{what + ', MB PSS':36} {sum(memory.values()):6.0f}  ({parts})")


if __name__ == "__main__":
    main()
