"""Progress bars on stderr, for whatever takes longer than a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cli.output import console

OnStage = Callable[[str, int, int], None]


@contextmanager
def transfer_bars(titles: dict[str, str], in_bytes: frozenset[str]) -> Iterator[OnStage]:
    """Bars for stages that come one after another, told ``(stage, done, total)``.

    ``titles`` name the stages; those in ``in_bytes`` count bytes, the others things.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    from cli.output import bytes_text

    class Amount(ProgressColumn):
        """How much of how much, in the stage's unit."""

        def render(self, task: Task) -> Text:
            if task.fields["in_bytes"]:
                return Text(f"{bytes_text(task.completed)}/{bytes_text(task.total or 0)}")
            return Text(f"{task.completed:.0f}/{task.total or 0:.0f}")

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        Amount(),
        TimeRemainingColumn(compact=True),
        console=console(stderr=True),
    ) as progress:
        tasks: dict[str, Any] = {}

        def on_stage(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                title = f"{titles[stage]:<{max(len(t) for t in titles.values())}}"
                tasks[stage] = progress.add_task(title, total=total, in_bytes=stage in in_bytes)
            progress.update(tasks[stage], completed=done, total=total)

        yield on_stage


@contextmanager
def download_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar for one download of ``total`` bytes, told the bytes of every chunk."""
    received = 0
    with transfer_bars({title: title}, frozenset({title})) as on_stage:

        def on_received(count: int) -> None:
            nonlocal received
            received += count
            on_stage(title, received, total or received)

        yield on_received
