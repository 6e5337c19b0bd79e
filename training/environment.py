"""What a job runs on: ``mlops:environment`` of its run."""

import platform
import shutil
import subprocess
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
    """Ask NVIDIA's driver for its GPUs; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Devices(())
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return Devices(())
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return Devices(tuple(line.strip() for line in lines if line.strip()))


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
