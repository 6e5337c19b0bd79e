"""`mlops --help` answers at once: nothing heavy is imported for it."""

import subprocess
import sys

HEAVY = ("torch", "httpx", "pydantic", "rasterio", "onnx", "onnxruntime", "numpy", "pyarrow")

PROGRAM = """
import sys
from typer.testing import CliRunner
from cli.main import app
result = CliRunner().invoke(app, sys.argv[1:])
assert result.exit_code == 0, result.output
print(*sorted(sys.modules))
"""


def imported(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], check=True, capture_output=True, text=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_help_imports_nothing_heavy() -> None:
    assert not imported("--help") & set(HEAVY)


def test_help_of_a_command_imports_nothing_heavy() -> None:
    # Typer itself reads options with pydantic.
    assert not imported("run", "submit", "--help") & (set(HEAVY) - {"pydantic"})


def test_version_imports_nothing_heavy() -> None:
    assert not imported("--version") & set(HEAVY)
