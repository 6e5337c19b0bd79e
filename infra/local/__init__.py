"""The whole system on one machine: its own PostgreSQL, the API, the dispatcher, local jobs."""


class StartupError(Exception):
    """The stack cannot start; the message is a sentence that says what to do."""
