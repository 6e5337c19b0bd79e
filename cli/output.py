"""What commands print: JSON for programs, tables and sentences for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough for any table: what reads a pipe wraps by itself or not at all.
_PIPE_WIDTH = 1000


def emit_json(document: Any) -> None:
    """Print one JSON document over several lines."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def emit_json_line(document: Any) -> None:
    """Print one JSON document on one line, at once."""
    typer.echo(json.dumps(document, ensure_ascii=False))
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a message for people to stderr."""
    typer.echo(text, err=True)


def console(*, stderr: bool = False) -> "Console":
    """A Rich console for stdout or stderr."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table that fits the terminal; ``empty`` is said where there is nothing.

    A column whose name begins with ``>`` is aligned to the right. The first column is never cut.
    """
    from rich.table import Table
    from rich.text import Text

    listed = [[str(cell) for cell in row] for row in rows]
    if not listed:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        table.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
            no_wrap=False,
            min_width=None if index else min(12, max(len(row[0]) for row in listed)),
        )
    for row in listed:
        table.add_row(*(Text(cell) for cell in row))
    _print(table)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print names with their values, one a line; values that are None or empty are left out.

    Lines are not wrapped: a URL that the terminal wraps can still be copied whole.
    """
    listed = [(name, str(value)) for name, value in facts if value is not None and value != ""]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        typer.echo(f"{typer.style(name.ljust(width), bold=True)}  {value}")


def _print(table: "Table") -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(table)
    # Rich fills every line up with spaces, which nobody wants in a file or a paste.
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def bytes_text(count: float) -> str:
    """A number of bytes for people.

    >>> bytes_text(1_049_718)
    '1.0 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number_text(value: float) -> str:
    """A metric's value for people, four significant digits.

    >>> number_text(0.87654321)
    '0.8765'
    """
    return f"{value:.4g}"


def time_text(time: str | None) -> str:
    """An ISO 8601 time for people, to the second, UTC."""
    return (time or "").replace("T", " ")[:19]
