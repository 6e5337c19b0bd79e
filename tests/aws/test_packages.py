"""The functions' packages as `sam build` makes them: for Lambda's platform, and always the same."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from infra.aws.packages import build as packaging
from infra.aws.packages.build import PackageError, Target, build, packages_of_functions
from tests.aws.transformed import ROOT, source

SAM = ROOT / ".venv-cloud" / "bin" / "sam"
# e_machine of an ELF file.
MACHINES = {"arm64": b"\xb7\x00", "x86_64": b"\x3e\x00"}
_FOR_OTHER_PYTHON = re.compile(r"\.cpython-(?!313-)\d+-")
# Amazon Linux 2023.
GLIBC = (2, 34)


def sam_build(folder: Path, architecture: str) -> str:
    done = subprocess.run(
        [
            *(str(SAM), "build", "--build-dir", str(folder)),
            *("--parameter-overrides", f"Architecture={architecture}"),
        ],
        cwd=ROOT,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "AWS_DEFAULT_REGION": "eu-central-1",
            "SAM_CLI_TELEMETRY": "0",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr + done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SAM.exists():
        pytest.skip("SAM is not installed: run `sh infra/aws/setup.sh`")
    folder = tmp_path_factory.mktemp("sam")
    said = sam_build(folder, "arm64")
    # What the whole of a test session shows with `-s`, and CI in its log.
    print("\n".join(sorted(line for line in said.splitlines() if "MB unzipped" in line)))
    return folder


def folders(built: Path) -> dict[str, Path]:
    return {name: built / name for name in packages_of_functions()}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def digest(folder: Path) -> str:
    """Of names, contents, modes and times of all that is in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.stat()
        found.update(f"{path.relative_to(folder)} {facts.st_mode:o} {facts.st_mtime}\n".encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_every_function_is_built(built: Path) -> None:
    functions = {
        name
        for name, one in source()["Resources"].items()
        if one["Type"] == "AWS::Serverless::Function"
    }
    assert set(folders(built)) == functions
    for name, folder in folders(built).items():
        module = source()["Resources"][name]["Properties"]["Handler"].rpartition(".")[0]
        assert (folder / f"{module.replace('.', '/')}.py").is_file()


def test_sizes(built: Path) -> None:
    limits = tomllib.loads(packaging.DESCRIPTION.read_text())["packages"]
    stated = {name: one["megabytes"] for name, one in limits.items()}
    assert stated == {"functions": 30, "register-model": 130, "api": 85, "database": 50}
    for name, package in packages_of_functions().items():
        size = sum(path.stat().st_size for path in files(built / name))
        assert size < package.megabytes * 1e6, (name, size)


def test_nothing_is_there_that_is_not_needed(built: Path) -> None:
    found = folders(built)
    for name, folder in found.items():
        there = {path.name for path in folder.iterdir()}
        assert not there & {"rich", "typer", "cli", "training", "infra", "tests", "bin"}, name
        assert ("onnx" in there) == (name == "RegisterModelFunction")
        kind = packages_of_functions()[name].name
        assert ("fastapi" in there) == ("asyncpg" in there) == (kind == "api"), name
        assert ("psycopg" in there) == ("pypgstac" in there) == (kind == "database"), name
        services = {p.name for p in (folder / "botocore" / "data").iterdir() if p.is_dir()}
        assert services == set(packages_of_functions()[name].services)


def test_binaries_are_for_lambda(built: Path) -> None:
    for name, folder in folders(built).items():
        for path in folder.rglob("*.so*"):
            content = path.read_bytes()
            assert content[18:20] == MACHINES["arm64"], path
            assert not _FOR_OTHER_PYTHON.search(path.name), path
            wanted = {
                tuple(map(int, v.split(b"."))) for v in re.findall(rb"GLIBC_([\d.]+)", content)
            }
            assert max(wanted, default=(0,)) <= GLIBC, (name, path)


def test_two_builds_are_equal(built: Path, tmp_path: Path) -> None:
    package = packages_of_functions()["LaunchRunFunction"]
    build(package, packaging.default_target("arm64"), tmp_path / "again")
    assert digest(tmp_path / "again") == digest(built / "LaunchRunFunction")


def test_the_other_processor(tmp_path: Path) -> None:
    package = packages_of_functions()["LaunchRunFunction"]
    build(package, packaging.default_target("x86_64"), tmp_path)
    binaries = list(tmp_path.rglob("*.so"))
    assert binaries
    assert {path.read_bytes()[18:20] for path in binaries} == {MACHINES["x86_64"]}


def test_bytecode_is_of_the_runtime(tmp_path: Path) -> None:
    """Where there is an interpreter of its version; the code's folder is read-only in Lambda."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    package = packages_of_functions()["LaunchRunFunction"]
    build(package, Target(python, "arm64"), tmp_path)
    cache = tmp_path / "functions" / "__pycache__"
    (compiled,) = cache.glob("launch_run.*.pyc")
    content = compiled.read_bytes()
    # Unchecked hash: the file's time, which a zip file does not keep, is not looked at.
    assert content[4:8] == b"\x01\x00\x00\x00"
    assert b"/var/task/functions/launch_run.py" in content
    assert str(tmp_path).encode() not in content


def test_a_package_that_grows_is_refused(tmp_path: Path) -> None:
    package = replace(packages_of_functions()["LaunchRunFunction"], megabytes=1)
    with pytest.raises(PackageError, match="may have 1"):
        build(package, packaging.default_target("arm64"), tmp_path)


def test_pip_s_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "CACHE", tmp_path / "cache")
    package = replace(
        packages_of_functions()["LaunchRunFunction"], requirements=("stac-mlops-is-not-there",)
    )
    with pytest.raises(PackageError, match="stac-mlops-is-not-there"):
        build(package, packaging.default_target("arm64"), tmp_path / "out")
