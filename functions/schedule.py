"""The schedule of ``reconcile``: armed while runs are open, so that an idle system does nothing."""

from typing import Any, Protocol


class Schedule(Protocol):
    """What runs ``reconcile`` every minute while it is armed. Both calls may be repeated."""

    def arm(self) -> None:
        """Begin to run it."""
        ...

    def disarm(self) -> None:
        """Run it no more; once more at most, by what is on its way already."""
        ...


class ScheduleRule:
    """A rule of EventBridge with a rate; a :class:`Schedule`.

    Rules with a schedule are on the account's default bus, whatever bus the events take.
    """

    def __init__(self, name: str, client: Any = None) -> None:
        if client is None:
            import boto3

            client = boto3.client("events")
        self._client = client
        self._name = name

    def arm(self) -> None:
        """Enable the rule."""
        self._client.enable_rule(Name=self._name)

    def disarm(self) -> None:
        """Disable the rule."""
        self._client.disable_rule(Name=self._name)
