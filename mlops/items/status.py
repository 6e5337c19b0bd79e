"""The status of a run: OGC API Processes' words, and the changes that are allowed."""

from enum import StrEnum


class Status(StrEnum):
    """Where a training run stands."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended; a terminal status is final."""
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCESSFUL, Status.FAILED, Status.DISMISSED})
OPEN = frozenset({Status.ACCEPTED, Status.RUNNING})

# accepted -> failed is for a job that ended before it could say that it runs.
# accepted -> successful is for one whose "running" was lost on the way.
_ALLOWED: dict[Status, frozenset[Status]] = {
    Status.ACCEPTED: frozenset(
        {Status.RUNNING, Status.SUCCESSFUL, Status.FAILED, Status.DISMISSED}
    ),
    Status.RUNNING: frozenset({Status.SUCCESSFUL, Status.FAILED, Status.DISMISSED}),
    Status.SUCCESSFUL: frozenset(),
    Status.FAILED: frozenset(),
    Status.DISMISSED: frozenset(),
}


class StatusChangeError(ValueError):
    """A change of status that the rules do not allow."""


def check_transition(before: Status, after: Status) -> None:
    """Raise :class:`StatusChangeError` with a sentence when ``before`` may not become ``after``."""
    if before is after or after in _ALLOWED[before]:
        return
    if before.is_terminal:
        raise StatusChangeError(
            f"The run is {before}, which is final: it cannot become {after}. Submit a new run."
        )
    allowed = ", ".join(sorted(_ALLOWED[before]))
    raise StatusChangeError(
        f"A run that is {before} cannot become {after}; it may become {allowed}."
    )
