"""Makes the packages of the Lambda functions; `sam build` runs it once for each function.

Needs nothing but Python (3.11 or later) and pip, and no container: wheels for Lambda's platform are
chosen by their tags, nothing is compiled here. Two builds of the same tree are equal byte for byte:
versions come from constraints.txt, and every file has the same time.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTION = Path(__file__).with_name("packages.toml")
CACHE = ROOT / ".aws-sam" / "dependencies"
# Amazon Linux 2023, which Lambda's runtimes from Python 3.12 on are made of, has glibc 2.34.
_GLIBC = range(34, 16, -1)
_WHEEL_ARCHITECTURE = {"arm64": "aarch64", "x86_64": "x86_64"}
# 1980-01-01: the earliest time that a zip file can say.
_TIME = 315_532_800
# Never read at run time: command-line scripts (they also name this machine's Python), tests, stubs,
# sources of what is compiled.
_LEFT_OUT = (
    *("bin", "**/tests", "**/__pycache__", "**/py.typed", "**/*.pyi"),
    *("**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.c", "**/*.h"),
)
_NAME = re.compile(r"\A[A-Za-z0-9._-]+")


class PackageError(Exception):
    """A package cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """What one kind of package holds. ``megabytes`` is the limit of its size, unzipped."""

    name: str
    requirements: tuple[str, ...]
    sources: tuple[str, ...]
    services: tuple[str, ...]
    from_source: tuple[str, ...]
    left_out: tuple[str, ...]
    megabytes: int


@dataclass(frozen=True)
class Target:
    """What the code has to run on."""

    python: str
    architecture: str


def packages_of_functions() -> dict[str, Package]:
    """Which package each function has, by logical id."""
    description = _description()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = {
        name: Package(
            name,
            _requirements(project, part),
            tuple(part["sources"]),
            tuple(part["services"]),
            tuple(part.get("from_source", [])),
            tuple(description["left_out"]),
            part["megabytes"],
        )
        for name, part in description["packages"].items()
    }
    return {function: packages[name] for function, name in description["functions"].items()}


def default_target(architecture: str) -> Target:
    """The runtime of template.yaml, or the Python that ``MLOPS_LAMBDA_PYTHON`` names.

    Tests name their own, to run the packages on the machine that they run on.
    """
    python = os.environ.get("MLOPS_LAMBDA_PYTHON") or _description()["python"]
    return Target(python, architecture)


def build(package: Package, target: Target, into: Path) -> int:
    """Make ``package`` in the folder ``into``, which is emptied first; return its size in bytes.

    Raises:
        PackageError: pip failed, or the package is larger than it may be.
    """
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(_dependencies(package, target), into)
    for source in package.sources:
        shutil.copytree(ROOT / source, into / source, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(into, target.python)
    size = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    for path in (into, *into.rglob("*")):
        os.utime(path, (_TIME, _TIME))
        path.chmod(0o755 if path.is_dir() else 0o644)
    if size > package.megabytes * 1_000_000:
        raise PackageError(
            f"the package {package.name} has {size / 1e6:.1f} MB and may have {package.megabytes}: "
            f"see what grew with `du -a {into} | sort -n | tail`, and leave it out in {DESCRIPTION}"
        )
    return size


def _description() -> dict[str, Any]:
    return tomllib.loads(DESCRIPTION.read_text())


def _requirements(project: dict[str, Any], part: dict[str, Any]) -> tuple[str, ...]:
    wanted = [*project["dependencies"]]
    for extra in part["extras"]:
        wanted += project["optional-dependencies"][extra]
    by_name = {_name(requirement): requirement for requirement in wanted}
    # One that only this package needs beside its extras; in the version of constraints.txt.
    by_name.update({name: name for name in part.get("also", [])})
    unknown = set(part["without"]) - by_name.keys()
    if unknown:
        raise PackageError(f"{', '.join(sorted(unknown))} to leave out: no such requirement")
    return tuple(by_name[name] for name in sorted(by_name) if name not in part["without"])


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    if match is None:
        raise PackageError(f"{requirement!r} is not a requirement")
    return match[0].lower()


def _dependencies(package: Package, target: Target) -> Path:
    # Functions with the same needs share one installation, also when they are built in parallel.
    constraints = (ROOT / "constraints.txt").read_bytes()
    facts = [asdict(package), asdict(target)]
    identity = hashlib.sha256(
        json.dumps(facts).encode() + constraints + Path(__file__).read_bytes()
    ).hexdigest()[:16]
    folder = CACHE / f"{package.name}-{identity}"
    with _locked(CACHE / f"{package.name}.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            wheels = CACHE / f"{package.name}.wheels"
            _make_wheels(package.from_source, wheels)
            _install(package, target, unfinished, wheels)
            _trim(unfinished, package)
            unfinished.rename(folder)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_wheels(names: tuple[str, ...], folder: Path) -> None:
    # Published as source only; pure Python, so a wheel made here is good for Lambda's platform.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not names:
        return
    command = ["wheel", "--no-deps", "--wheel-dir", str(folder)]
    _pip([*command, "--constraint", str(ROOT / "constraints.txt"), *names])
    for wheel in folder.glob("*.whl"):
        if not wheel.name.endswith("-py3-none-any.whl"):
            raise PackageError(f"{wheel.name} is not pure Python, so it cannot be built here")


def _install(package: Package, target: Target, into: Path, wheels: Path) -> None:
    machine = _WHEEL_ARCHITECTURE[target.architecture]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    command = [
        *("install", "--target", str(into), "--no-compile", "--only-binary=:all:"),
        *("--find-links", str(wheels)),
        *("--implementation", "cp", "--python-version", target.python),
        *(f"--platform={platform}" for platform in [*platforms, f"manylinux2014_{machine}"]),
        *("--constraint", str(ROOT / "constraints.txt"), *package.requirements),
    ]
    _pip(command)


def _pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")


def _trim(folder: Path, package: Package) -> None:
    for pattern in (*_LEFT_OUT, *package.left_out):
        for path in list(folder.glob(pattern)):
            _remove(path)
    # botocore describes 400 services in 25 MB; boto3's own data is for resources, none is used.
    _remove(folder / "boto3" / "data")
    _remove(folder / "boto3" / "examples")
    missing = [
        name for name in package.services if not (folder / "botocore" / "data" / name).is_dir()
    ]
    if missing:
        raise PackageError(f"botocore knows no service {', '.join(missing)}")
    for path in (folder / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in package.services:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _compile(folder: Path, python: str) -> None:
    # The code's folder is read-only in Lambda: without bytecode every cold start compiles anew.
    # Unchecked, because the files' times do not survive the zip file.
    interpreter = _interpreter(python)
    if interpreter is None:
        sys.stdout.write(f"no python{python} here: the package has no bytecode and starts slower\n")
        return
    subprocess.run(
        [
            *(interpreter, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(folder), "-p", "/var/task", str(folder)),
        ],
        check=True,
    )


def _interpreter(python: str) -> str | None:
    found = (sys.executable, shutil.which(f"python{python}"))
    ask = "import sys; print('{}.{}'.format(*sys.version_info))"
    for candidate in found:
        if candidate is None:
            continue
        answer = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if answer.stdout.strip() == python:
            return candidate
    return None


def main() -> int:
    """Make the package of the function that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function", help="logical id in template.yaml")
    parser.add_argument("--architecture", choices=sorted(_WHEEL_ARCHITECTURE), required=True)
    parser.add_argument("--into", type=Path, required=True)
    arguments = parser.parse_args()
    package = packages_of_functions()[arguments.function]
    try:
        size = build(package, default_target(arguments.architecture), arguments.into)
    except PackageError as error:
        sys.stderr.write(f"{arguments.function}: {error}\n")
        return 1
    sys.stdout.write(f"{arguments.function}: {size / 1e6:.1f} MB unzipped ({package.name})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
