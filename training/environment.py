"""What a job runs on: ``mlops:environment`` of its run."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from training.contract import cpu_count

_PACKAGES = {
    "pytorch": ("torch", "onnx", "onnxruntime", "onnxscript"),
}
_ALWAYS = ("stac-mlops", "numpy", "pyarrow", "rasterio")


@dataclass(frozen=True)
class Devices:
    """The accelerators that this machine shows, by name."""

    gpus: tuple[str, ...]


def find_devices() -> Devices:
    """Ask NVIDIA's driver for its GPUs; none where there is no driver.

    ``CUDA_VISIBLE_DEVICES`` (numbers or ids of GPUs) hides the others, as it does from CUDA.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return Devices(())
    command = [program, "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return Devices(())
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    found = [line.split(", ", 2) for line in lines if line.count(", ") >= 2]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return Devices(tuple(name for _, _, name in found))
    return Devices(tuple(_visible(found, chosen)))


def _visible(found: list[list[str]], chosen: str) -> Iterator[str]:
    """The GPUs that CUDA would show: up to the first that it does not know."""
    for part in chosen.split(","):
        wanted = part.strip()
        names = [
            name
            for index, uuid, name in found
            if wanted == index or (wanted.startswith("GPU-") and uuid.startswith(wanted))
        ]
        if not names:
            return
        yield names[0]


def describe_environment(framework: str, devices: Devices) -> dict[str, Any]:
    """Python, platform, the framework with the versions that matter, and the device.

    Versions are read from the installed packages, so that no framework is imported here.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "framework": framework,
        "versions": installed_versions((*_PACKAGES.get(framework, ()), *_ALWAYS)),
        "device": "cuda" if devices.gpus else "cpu",
        "gpus": list(devices.gpus),
        "cpus": cpu_count(),
        "machine": platform.machine(),
    }


def installed_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The version of each of ``packages`` that is installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
