"""The container files of the training images, and the script that builds them."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from mlops.recipes import RECIPES
from tests.conftest import REPOSITORY

IMAGES = REPOSITORY / "infra" / "images"
TRAINING = sorted(set(IMAGES.glob("*.Dockerfile")) - {IMAGES / "server.Dockerfile"})
DIGEST = "sha256:" + "b" * 64
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mlops/pytorch"


def _instructions(file: Path) -> list[list[str]]:
    text = re.sub(r"(?m)^#.*\n", "", file.read_text()).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def test_every_framework_of_a_recipe_has_its_image() -> None:
    frameworks = {name for recipe in RECIPES.values() for name in recipe.frameworks}
    assert {file.stem for file in TRAINING} == frameworks


@pytest.mark.parametrize("file", TRAINING, ids=lambda file: file.stem)
def test_a_training_image_is_pinned_and_not_roots(file: Path) -> None:
    instructions = _instructions(file)
    bases = [value for name, value in instructions if name == "ARG" and value.startswith("BASE=")]
    assert len(bases) == 1
    assert re.fullmatch(r"BASE=\S+:\S+@sha256:[0-9a-f]{64}", bases[0])
    assert {value.split()[0] for name, value in instructions if name == "FROM"} == {"${BASE}"}
    users = [value for name, value in instructions if name == "USER"]
    assert users == ["10001:10001"]
    # In exec form the agent itself gets SIGTERM; SageMaker appends the argument `train`.
    entry = [value for name, value in instructions if name == "ENTRYPOINT"]
    assert json.loads(entry[0]) == ["python", "-m", "training.job"]
    assert not [value for name, value in instructions if name == "ADD"]
    installs = [value for name, value in instructions if name == "RUN" and "pip install" in value]
    assert all("-c /src/constraints.txt" in text or "--no-deps" in text for text in installs)
    assert f"[train-{file.stem},aws]" in file.read_text()


def test_what_the_images_copy_is_sent_to_the_builder() -> None:
    sent = {
        line.removeprefix("!")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for file in TRAINING:
        for name, value in _instructions(file):
            if name == "COPY" and not value.startswith("--from"):
                assert set(value.split()[:-1]) <= sent
    assert all((REPOSITORY / name).exists() for name in sent)


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment whose `docker` and `aws` write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls = tmp_path / "calls"
    (folder / "docker").write_text(
        f"""#!/bin/sh
printf 'docker %s\\n' "$*" >>{calls}
[ "$1" != login ] || {{ printf 'password %s\\n' "$(cat)" >>{calls}; exit 0; }}
while [ $# -gt 0 ]; do
    [ "$1" != --metadata-file ] || printf '{{\\n  "containerimage.digest": "{DIGEST}"\\n}}' >"$2"
    shift
done
"""
    )
    (folder / "aws").write_text(f"#!/bin/sh\nprintf 'aws %s\\n' \"$*\" >>{calls}\necho secret\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "CALLS": str(calls)}


def _build(tools: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(IMAGES / "build.sh"), *arguments]
    return subprocess.run(command, env=tools, capture_output=True, text=True, check=False)


def test_an_image_is_built_pushed_and_named_by_its_digest(tools: dict[str, str]) -> None:
    ended = _build(tools, "pytorch", ECR, "v1")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{ECR}@{DIGEST}\n"
    calls = Path(tools["CALLS"]).read_text()
    assert "aws ecr get-login-password --region eu-central-1" in calls
    # Both ends of the pipe start at once: their order is not given.
    registry = ECR.partition("/")[0]
    assert f"docker login --username AWS --password-stdin {registry}" in calls.splitlines()
    assert "password secret" in calls.splitlines()
    built = next(line for line in calls.splitlines() if "buildx build" in line)
    assert f"--tag {ECR}:v1 " in built
    assert built.endswith("--push")
    assert "--platform linux/amd64 --provenance=false" in built
    assert "--build-arg" not in built


def test_base_and_index_may_be_others(tools: dict[str, str]) -> None:
    base = f"mirror.example/cuda:12@{DIGEST}"
    chosen = {**tools, "BASE": base, "TORCH_INDEX": "https://index.example/cpu", "PUSH": "no"}
    ended = _build(chosen, "pytorch", "mlops/pytorch", "v1")

    assert ended.stdout == "mlops/pytorch:v1\n"
    calls = Path(tools["CALLS"]).read_text()
    assert f"--build-arg BASE={base} --build-arg TORCH_INDEX=https://index.example/cpu" in calls
    assert "login" not in calls


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        ((), {}, "usage: build.sh FRAMEWORK"),
        (("caffe", ECR), {}, "there are: pytorch"),
        (("server", ECR), {}, "no image for server"),
        (("pytorch", ECR), {"BASE": "nvidia/cuda:13"}, "must name its digest"),
    ],
)
def test_what_cannot_be_built_is_said(
    tools: dict[str, str], arguments: tuple[str, ...], changes: dict[str, str], said: str
) -> None:
    ended = _build({**tools, **changes}, *arguments)
    assert ended.returncode == 1
    assert said in ended.stderr
