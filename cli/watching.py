"""Following a run in front of a person or a program."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from cli.output import console, emit_json_line, number_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from mlops.sdk import MetricPoint, Run, RunUpdate

_COLORS = {
    "accepted": "yellow",
    "running": "cyan",
    "successful": "green",
    "failed": "red",
    "dismissed": "magenta",
}
_BARS = "▁▂▃▄▅▆▇█"
_TREND_WIDTH = 24
_METRICS_IN_A_LINE = 5


def follow(updates: "Iterable[RunUpdate]", *, json: bool) -> "Run":
    """Show updates until the run has ended; returns the run as it ended.

    JSON lines for programs; a live picture on a terminal; else a line for what changed.
    """
    if json:
        return _follow_as_json(updates)
    screen = console()
    return _follow_live(updates, screen) if screen.is_terminal else _follow_in_lines(updates)


def follow_silently(updates: "Iterable[RunUpdate]") -> "Run":
    """Wait until the run has ended; returns the run as it ended."""
    run = None
    for update in updates:
        run = getattr(update, "run", run)
    return _ended(run)


class RunView:
    """What is known of a run while it is followed, as a picture for a terminal."""

    def __init__(self) -> None:
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        self.run: Run | None = None
        self.progress = 0.0
        self.history: dict[str, list[MetricPoint]] = defaultdict(list)

    def apply(self, update: "RunUpdate") -> None:
        """Take in what happened."""
        from mlops.sdk import Measured, Progressed, StatusChanged

        if isinstance(update, StatusChanged):
            self.run = update.run
            self.progress = update.run.progress
        elif isinstance(update, Progressed):
            self.progress = update.progress
        elif isinstance(update, Measured):
            for point in update.points:
                self.history[point.name].append(point)

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self.run is None:
            return Text("")
        status = self.run.status
        head = Table.grid(padding=(0, 2, 0, 0))
        name, word = Text(self.run.id, style="bold", overflow="fold"), Text(status, _COLORS[status])
        head.add_row(name, word, "" if status.is_terminal else self._spinner)
        bar = Table.grid(padding=(0, 2, 0, 0))
        bar.add_row(
            ProgressBar(total=1.0, completed=self.progress, width=40),
            Text(f"{100 * self.progress:.0f} %"),
        )
        return Group(head, bar, self._metrics()) if self.history else Group(head, bar)

    def _metrics(self) -> "RenderableType":
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("metric", overflow="fold")
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column("course", no_wrap=True)
        objective = self.run.objective if self.run else None
        for name, points in self.history.items():
            last = points[-1]
            course = trend([point.value for point in points])
            row = (name, number_text(last.value), str(last.step), course)
            table.add_row(*row, style="bold" if name == objective else None)
        return table


def trend(values: list[float], width: int = _TREND_WIDTH) -> str:
    """A line of blocks that shows the course of a metric, its latest ``width`` values at most.

    >>> trend([0.0, 0.5, 1.0])
    '▁▄█'
    """
    shown = [value for value in values[-width:] if math.isfinite(value)]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1))] for value in shown)


def _follow_live(updates: "Iterable[RunUpdate]", screen: "Console") -> "Run":
    from rich.live import Live
    from rich.text import Text

    from mlops.sdk import Logged

    view = RunView()
    with Live(view, console=screen, refresh_per_second=4) as live:
        for update in updates:
            if isinstance(update, Logged):
                live.console.print(Text(update.text.rstrip("\n"), style="dim"))
            view.apply(update)
            live.refresh()
    return _ended(view.run)


def _follow_in_lines(updates: "Iterable[RunUpdate]") -> "Run":
    from mlops.sdk import Logged, Measured, StatusChanged

    view = RunView()
    for update in updates:
        view.apply(update)
        if isinstance(update, StatusChanged):
            typer.echo(f"{update.run.id}: {update.status}")
        elif isinstance(update, Logged):
            typer.echo(update.text, nl=False)
        elif isinstance(update, Measured):
            for line in metric_lines(update.points):
                typer.echo(line)
    return _ended(view.run)


def metric_lines(points: "Iterable[MetricPoint]") -> list[str]:
    """A line for each step with its first metrics: a log has no room for every class."""
    by_step: dict[int, list[str]] = defaultdict(list)
    for point in points:
        by_step[point.step].append(f"{point.name} {number_text(point.value)}")
    lines = []
    for step, texts in sorted(by_step.items()):
        more = len(texts) - _METRICS_IN_A_LINE
        rest = f", and {more} more" if more > 0 else ""
        lines.append(f"step {step}: {', '.join(texts[:_METRICS_IN_A_LINE])}{rest}")
    return lines


def _follow_as_json(updates: "Iterable[RunUpdate]") -> "Run":
    run = None
    for update in updates:
        emit_json_line(update_document(update))
        run = getattr(update, "run", run)
    return _ended(run)


def update_document(update: "RunUpdate") -> dict[str, Any]:
    """An update as JSON; the terminal status carries the run's Item."""
    from mlops.sdk import Logged, Measured, Progressed

    if isinstance(update, Progressed):
        return {"type": "progress", "progress": update.progress}
    if isinstance(update, Logged):
        return {"type": "log", "text": update.text}
    if isinstance(update, Measured):
        return {"type": "metrics", "points": [_point_document(point) for point in update.points]}
    document: dict[str, Any] = {"type": "status", "run": update.run.id, "status": update.status}
    if update.status.is_terminal:
        document["item"] = update.run.item
    return document


def _point_document(point: "MetricPoint") -> dict[str, Any]:
    # JSON has no NaN and no infinities: spelled as the API spells them.
    special = {math.inf: "Infinity", -math.inf: "-Infinity"}
    value: float | str = special.get(point.value, point.value)
    if math.isnan(point.value):
        value = "NaN"
    return {
        "name": point.name,
        "step": point.step,
        "time": point.time.isoformat(),
        "value": value,
    }


def _ended(run: "Run | None") -> "Run":
    if run is None:
        raise RuntimeError("a run was followed that said nothing of its status")
    return run
