"""Exit codes of the `mlops` command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    FAILED = 1
    """A run failed or was dismissed, a check did not pass, or anything not named below."""
    USAGE = 2
    """The command was not understood."""
    UNREACHABLE = 3
    """The API cannot be reached."""
    NOT_FOUND = 4
    CONFLICT = 5
    """It exists already, or its state does not allow it."""
    REFUSED = 6
    """The input is not as it should be: a dataset, a file, or what the API said of a request."""
