"""Runs checkov on the templates and compares what fails with what may (security.toml).

Usage: ``python infra/aws/security_lint.py CHECKOV``, with the path of the checkov command. Needs
nothing but Python (3.11 or later) and checkov; nothing is asked of the network.
"""

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = Path(__file__).with_name("security.toml")


@dataclass(frozen=True, order=True)
class Finding:
    """A check that fails on a resource, which is ``{template}:{logical id}``."""

    check: str
    resource: str
    title: str = ""


@dataclass(frozen=True)
class Allowed:
    """A check that may fail on some resources, and why."""

    check: str
    resources: tuple[str, ...]
    reason: str

    def covers(self, pattern: str, finding: Finding) -> bool:
        """Whether one of the patterns speaks of ``finding``."""
        return finding.check == self.check and fnmatchcase(finding.resource, pattern)


def read_allowed(path: Path = ALLOWED) -> list[Allowed]:
    """What may fail."""
    entries = tomllib.loads(path.read_text())["allowed"]
    return [Allowed(one["check"], tuple(one["resources"]), one["reason"]) for one in entries]


def complaints(findings: list[Finding], allowed: list[Allowed]) -> list[str]:
    """What is wrong: findings that nothing allows, and allowances that nothing needs."""
    wrong = [
        f"{one.resource}: {one.check} {one.title}: mend it, or say in {ALLOWED.name} why not"
        for one in sorted(findings)
        if not any(entry.covers(p, one) for entry in allowed for p in entry.resources)
    ]
    wrong += [
        f"{ALLOWED.name}: {entry.check} does not fail on {pattern} any more: take it out"
        for entry in allowed
        for pattern in entry.resources
        if not any(entry.covers(pattern, one) for one in findings)
    ]
    return wrong


def run_checkov(command: str, templates: list[Path]) -> list[Finding]:
    """Every check of checkov that fails.

    Raises:
        RuntimeError: checkov could not read a template.
    """
    arguments = [command, "--framework", "cloudformation", "--skip-download", "--output", "json"]
    files = [argument for path in templates for argument in ("--file", str(path))]
    done = subprocess.run(
        [*arguments, "--soft-fail", *files], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"checkov failed:\n{done.stderr.strip()}")
    report = json.loads(done.stdout)
    if report["summary"]["parsing_errors"]:
        raise RuntimeError(f"checkov cannot read {report['results']['parsing_errors']}")
    return [
        Finding(
            one["check_id"],
            f"{Path(one['file_path']).stem}:{one['resource'].partition('.')[2]}",
            one["check_name"],
        )
        for one in report["results"]["failed_checks"]
    ]


def main() -> int:
    """Check the project's templates with the checkov that the command line names."""
    templates = [ROOT / "template.yaml", *sorted((ROOT / "infra" / "aws").glob("*.yaml"))]
    wrong = complaints(run_checkov(sys.argv[1], templates), read_allowed())
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
