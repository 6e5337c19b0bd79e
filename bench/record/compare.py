"""The run of the bench: one database, two servers, the cells in turn, and the table."""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import psycopg
import runs
from bulk import measure_bulk
from cells import CELLS, SIDES, Cell, Target, client
from runs import COLLECTION, STOCK_COLLECTION

from infra.local.postgres import Cluster, _free_port
from mlops.identity import issue_system_token
from stac_api.migrate import migrate

HERE = Path(__file__).parent
CONCURRENCY = (1, 16)
WARM_UP = 0.5
Results = dict[str, dict[str, dict[str, Any]]]


def main(description: str) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell")
    parser.add_argument("--json", type=Path, help="write all numbers to this file too")
    parser.add_argument("--folder", type=Path, help="keep the database here, for the next time")
    parser.add_argument(
        "--without-stock",
        action="store_true",
        help="leave the stock application out of the cells: at a million items it takes minutes",
    )
    parser.add_argument("--only", default="", help="cells whose names contain one of these")
    parser.add_argument(
        "--accept-encoding", default="identity", help="what clients can unpack, such as gzip"
    )
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mlops-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        report = run(cluster, folder, arguments)
    finally:
        cluster.stop()
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def run(cluster: Cluster, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    database = cluster.start()
    with psycopg.connect(database, autocommit=True) as connection:
        # Two servers with their pools, and a load of raw SQL beside them.
        connection.execute("ALTER SYSTEM SET max_connections = 100")
    cluster.stop()
    database = cluster.start()
    migrate(database)
    secret = secrets.token_hex(32)
    wanted = [part for part in arguments.only.split(",") if part]
    with ExitStack() as parts:
        ports = {
            "ours": parts.enter_context(serve("ours", ours_environment(database, folder, secret))),
            "stock": parts.enter_context(serve("stock", stock_environment(database))),
            "http": parts.enter_context(serve("http", {})),
        }
        connection = parts.enter_context(psycopg.connect(database, autocommit=True))
        fill(connection, ports, secret, arguments.items)
        turn = secrets.token_hex(4)
        target = Target(
            ports, database, connection, secret, arguments.items, turn, arguments.accept_encoding
        )
        results: Results = {}
        sides = tuple(s for s in SIDES if s != "stock" or not arguments.without_stock)
        print_head(sides)
        for number, cell in enumerate(c for c in CELLS if not wanted or any_in(wanted, c.name)):
            for concurrency in CONCURRENCY:
                name = f"{cell.name} @{concurrency}"
                first = (2 * number + (concurrency > 1)) * 20_000_000
                results[name] = {
                    side: measure(cell, side, target, concurrency, first, arguments.seconds)
                    for side in sides
                    if side != "http" or cell.reads
                }
                print_cell(name, results[name])
        bulk = {} if wanted and not any_in(wanted, "bulk") else measure_bulk(target)
    return {"items": arguments.items, "cores": os.cpu_count(), "cells": results, "bulk": bulk}


def any_in(parts: list[str], name: str) -> bool:
    return any(part in name for part in parts)


@contextmanager
def serve(which: str, environment: dict[str, str]) -> Iterator[int]:
    """A server in a process of its own; its port."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), which, str(port)],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL if which == "stock" else None,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {which} server did not start")
            try:
                if httpx.get(f"http://127.0.0.1:{port}/").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ours_environment(database: str, folder: Path, secret: str) -> dict[str, str]:
    return {
        "MLOPS_DATABASE_URL": database,
        "MLOPS_STORAGE": str(folder / "store"),
        "MLOPS_TOKEN_SECRET": secret,
    }


def stock_environment(database: str) -> dict[str, str]:
    parts = urlsplit(database)
    return {
        "PGUSER": parts.username or "",
        "PGPASSWORD": unquote(parts.password or ""),
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port),
        "PGDATABASE": parts.path[1:],
        "ENABLE_TRANSACTIONS_EXTENSIONS": "true",
    }


def fill(
    connection: psycopg.Connection[Any], ports: dict[str, int], secret: str, items: int
) -> None:
    """The data, as far as it is not there."""
    row = connection.execute(
        "SELECT count(*) FROM pgstac.items WHERE collection = %s AND id LIKE 'run-%%'",
        (STOCK_COLLECTION,),
    ).fetchone()
    present = int(row[0]) if row else 0
    if present == 0:
        with client(ports["ours"]) as ours, client(ports["stock"]) as stock:
            system = {"Authorization": f"Bearer {issue_system_token(secret, 'bench')}"}
            runs.make_patterns(ours, system, stock)
        runs.widen(connection, STOCK_COLLECTION)
    if present < items:
        for collection in (COLLECTION, STOCK_COLLECTION):
            loaded = runs.load(connection, collection, present, items - present)
            print(f"loaded {loaded.items} items into {collection}: {loaded.per_second:.0f}/s")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    size = connection.execute(
        "SELECT avg(length(mlops.document_json(i))) FROM pgstac.items i"
        " WHERE collection = %s AND id LIKE 'run-00000001%%'",
        (COLLECTION,),
    ).fetchone()
    print(f"{items} runs in each collection, {float(size[0] or 0) if size else 0:.0f} bytes each")


def measure(
    cell: Cell, side: str, target: Target, concurrency: int, first: int, seconds: float
) -> dict[str, Any]:
    """One cell on one side, by a load generator in a process of its own."""
    job = {
        **cell.job(side, target),
        "concurrency": concurrency,
        "first": first,
        "seconds": seconds,
        "warm_up": WARM_UP,
    }
    answer = subprocess.run(
        [sys.executable, str(HERE / "load.py")],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def print_head(sides: tuple[str, ...]) -> None:
    columns = "".join(f"{side + ': /s':>12}{'p50':>9}{'p95':>9}" for side in sides)
    ratios = "".join(f"{'ours/' + side:>12}" for side in sides if side != "ours")
    print(f"\n{'ms, @ concurrency':24}{columns}{ratios}")


def print_cell(name: str, sides: dict[str, dict[str, Any]]) -> None:
    line = f"{name:24}"
    for one in sides.values():
        wrong = "!" if one["errors"] else " "
        line += f"{one['per_second']:>11}{wrong}{one['p50_ms']:>9}{one['p95_ms']:>9}"
    rates = {side: max(one["per_second"], 1e-9) for side, one in sides.items()}
    for side, rate in rates.items():
        if side != "ours":
            line += f"{rates['ours'] / rate:>11.2f}x"
    print(line, flush=True)
    for side, one in sides.items():
        if one["errors"]:
            print(f"  ! {side}: {one['errors']} errors: {one['complaint']}")
