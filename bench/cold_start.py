"""What a cold start of the API on Lambda costs: time to import it, and size of its package.

    .venv/bin/python bench/cold_start.py [--runs 5] [--folder FOLDER]

Installs the `api` extra into a folder of its own, as a deployment package has it, and the stock
stac-fastapi-pgstac into another. Then starts fresh processes that see nothing but that folder, in
turn, and takes the medians: of the time by the clock, and of processor time, which other work on
the machine disturbs less. `ready` is until the application is made and could answer. `nothing` is
Python itself, which is in every number.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    answer = subprocess.run(
        [sys.executable, "-S", "-c", f"{code}; import sys; print(len(sys.modules))"],
        env={"PYTHONPATH": str(packages), "PATH": os.environ["PATH"], **SETTINGS},
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    return int(answer.stdout.split()[-1])


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
        install(packages["ours"], f"{REPOSITORY}[api]")
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
    print(f"unzipped package, MB: ours {sizes['ours']}, stock {sizes['stock']}")
    print(json.dumps({"times": result, "megabytes": sizes}))


if __name__ == "__main__":
    main()
