"""What a cold start of the API on Lambda costs: time to import it and to answer the first request
of each sort, and size of its package.

    .venv/bin/python bench/cold_start.py [--runs 5] [--folder FOLDER]

Makes the package of `StacApiFunction` as `sam build` does, but for this machine, and installs the
stock stac-fastapi-pgstac with Mangum into another folder. Then starts fresh processes that see
nothing but that folder, in turn, and takes the medians: of the time by the clock, and of processor
time, which other work on the machine disturbs less. `ready` is until the application is made and
could answer. `nothing` is Python itself, which is in every number.

What is imported and made later than at the start is not saved but put off: the second table says
what the first request that needs it waits for, each in a process of its own, beside the second such
request. They need no database, so none is in them.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.aws.packages.build import Target, build, packages_of_functions

REPOSITORY = Path(__file__).parents[1]
STOCK = "stac-fastapi-pgstac>=7.2,<8"
SETTINGS = {
    "MLOPS_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/none",
    "MLOPS_STORAGE": tempfile.gettempdir(),
    "MLOPS_TOKEN_SECRET": "x" * 64,
    **{f"PG{name}": "none" for name in ("USER", "PASSWORD", "HOST", "DATABASE")},
    "PGPORT": "1",
}
MAKE_OURS = (
    "import stac_api.aws_lambda as entry; from stac_api.settings import Settings; "
    "entry.LambdaApi(Settings())"
)
IMPORT_STOCK = "import mangum; from stac_fastapi.pgstac.app import create_app"
CASES = {
    "nothing": ("ours", "pass"),
    "fastapi alone, import": ("stock", "import fastapi"),
    "stock, import": ("stock", IMPORT_STOCK),
    "stock, ready": ("stock", f"{IMPORT_STOCK}; create_app()"),
    "ours, import": ("ours", "import stac_api.aws_lambda"),
    "ours, ready": ("ours", MAKE_OURS),
}

_EVENT = """
def event(path):
    http = {"method": "GET", "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
    context = {"http": http, "stage": "$default"}
    return {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
            "headers": {"host": "localhost"}, "requestContext": context, "isBase64Encoded": False}
"""
_OURS = f"{_EVENT}{MAKE_OURS.replace('entry.LambdaApi', 'api = entry.LambdaApi')}\n"
_STOCK = f"{_EVENT}{IMPORT_STOCK}; api = mangum.Mangum(create_app(), lifespan='off')\n"
_ITEM = """
from stac_api.rules.training_run import RunRequest
from stac_api.validation import check_item
item = {"type": "Feature", "stac_version": "1.1.0", "id": "i", "collection": "c",
        "links": [{"rel": "collection", "href": "https://a.example/c"}], "assets": {},
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0], "properties": {"datetime": "2026-01-01T00:00:00Z"}}
run = {"mlops:model": "m", "mlops:task": "regression", "mlops:recipe": "pixel-timeseries"}
"""
_SEARCH = """
from stac_api.search.request import read_parameters
from stac_api.search.spatial import geometry
from stac_api.search.statement import Arguments
"""
# Where, what must be there before, and the request, or the part of it that is put off.
FIRSTS = {
    "ours, a read (/healthz/live)": ("ours", _OURS, "api(event('/healthz/live'), None)"),
    "ours, the description (/api)": ("ours", _OURS, "api(event('/api'), None)"),
    "ours, queryables": ("ours", _OURS, "api(event('/queryables'), None)"),
    "ours, check of a run": (
        "ours",
        _OURS + _ITEM,
        "check_item(item); RunRequest.model_validate(run)",
    ),
    "ours, filter in CQL2 text": ("ours", _OURS + _SEARCH, "read_parameters({'filter': 'a > 1'})"),
    "ours, intersects": (
        "ours",
        _OURS + _SEARCH,
        "geometry(Arguments(), {'type': 'Point', 'coordinates': [1, 2]}, '')",
    ),
    "stock, a read (/_mgmt/ping)": ("stock", _STOCK, "api(event('/_mgmt/ping'), None)"),
    "stock, the description (/api)": ("stock", _STOCK, "api(event('/api'), None)"),
}


def install(target: Path, *requirements: str) -> None:
    """The requirements and all they need, byte-compiled, in a folder."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)),
            *("--constraint", str(REPOSITORY / "constraints.txt"), *requirements),
        ],
        check=True,
    )


def size_of(folder: Path) -> float:
    """Megabytes of a package as Lambda unzips it: without byte code and command-line scripts."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parent.name != "bin"
    ]
    return sum(path.stat().st_size for path in files) / 2**20


def start(packages: Path, code: str) -> tuple[float, float]:
    """Seconds by the clock and of processor time that a fresh process takes for ``code``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    # -S: nothing of the machine's own packages is seen.
    subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(packages), "PATH": os.environ["PATH"], **SETTINGS},
        cwd="/",
        stderr=subprocess.DEVNULL,
        check=True,
    )
    elapsed = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def modules(packages: Path, code: str) -> int:
    """How many modules ``code`` imports."""
    return int(output(packages, f"{code}; import sys; print(len(sys.modules))").split()[-1])


def first_and_second(packages: Path, before: str, code: str) -> tuple[float, float]:
    """Milliseconds that ``code`` takes in a process that is ready, and once more."""
    timed = (
        f"{before}\nimport time\nfor _ in range(2):\n    begin = time.perf_counter()\n"
        f"    {code}\n    print((time.perf_counter() - begin) * 1000)"
    )
    first, second = output(packages, timed).split()[-2:]
    return float(first), float(second)


def output(packages: Path, code: str) -> str:
    """What a fresh process prints."""
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(packages), "PATH": os.environ["PATH"], **SETTINGS},
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the packages here, for the next time")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mlops-cold-start-"))
    packages = {"ours": folder / "ours", "stock": folder / "stock"}
    if not packages["stock"].exists():
        install(packages["stock"], STOCK, "mangum")
    if not packages["ours"].exists():
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        target = Target(python, "arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64")
        build(packages_of_functions()["StacApiFunction"], target, packages["ours"])
    sizes = {name: round(size_of(path), 1) for name, path in packages.items()}
    # In turn, so that a busy minute of the machine falls on all of them; the first is not counted.
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for round_ in range(arguments.runs + 1):
        for name, (where, code) in CASES.items():
            measured = start(packages[where], code)
            if round_:
                times[name].append(measured)
    print(f"{'median of ' + str(arguments.runs):28} {'clock s':>8} {'cpu s':>7} {'modules':>8}")
    result = {}
    for name, (where, code) in CASES.items():
        clock, cpu = (statistics.median(column) for column in zip(*times[name], strict=True))
        count = modules(packages[where], code)
        result[name] = {"clock": round(clock, 3), "cpu": round(cpu, 3), "modules": count}
        print(f"{name:28} {clock:8.2f} {cpu:7.2f} {count:8}")
    print(f"{'after that, median':38} {'first, ms':>9} {'second, ms':>10}")
    firsts = {}
    for name, (where, before, code) in FIRSTS.items():
        runs = [first_and_second(packages[where], before, code) for _ in range(arguments.runs)]
        first, second = (round(statistics.median(column), 1) for column in zip(*runs, strict=True))
        firsts[name] = {"first": first, "second": second}
        print(f"{name:38} {first:9.1f} {second:10.1f}")
    print(f"unzipped package, MB: ours {sizes['ours']}, stock {sizes['stock']}")
    print(json.dumps({"times": result, "first_requests": firsts, "megabytes": sizes}))


if __name__ == "__main__":
    main()
