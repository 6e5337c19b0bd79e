"""The functions' packages, built for the interpreter that runs the tests.

As `sam build` makes them (it calls the same `infra.aws.packages.build`), but for this machine
instead of Lambda's, and one folder for functions that share a package.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infra.aws.packages.build import Target, build, packages_of_functions
from tests.aws.cloudformation import Template
from tests.aws.lambda_process import Package

_ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}


@dataclass(frozen=True)
class Packages:
    """Folders and sizes in bytes, by logical id of the function."""

    folders: Mapping[str, Path]
    sizes: Mapping[str, int]

    def function(self, template: Template, name: str) -> Package:
        """A function of the template, in its built package."""
        properties = template["Resources"][name]["Properties"]
        common = template["Globals"]["Function"]
        return Package(
            self.folders[name],
            properties["Handler"],
            name=name,
            timeout=float(properties.get("Timeout", common["Timeout"])),
            memory=int(properties.get("MemorySize", common["MemorySize"])),
        )


def built(folder: Path) -> Packages:
    """Build every package into ``folder``.

    Raises:
        PackageError: pip failed, or a package is larger than it may be.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = Target(python, _ARCHITECTURES[platform.machine()])
    functions = packages_of_functions()
    sizes = {
        # Limits are for Lambda's platform, whose packages differ; test_packages has them.
        package.name: build(replace(package, megabytes=250), target, folder / package.name)
        for package in {one.name: one for one in functions.values()}.values()
    }
    return Packages(
        {name: folder / package.name for name, package in functions.items()},
        {name: sizes[package.name] for name, package in functions.items()},
    )
