"""How much of CI's time a property-based test has."""

from hypothesis import HealthCheck, settings


def bounded(examples: int) -> settings:
    """The same examples in every run, so that what fails once fails again."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
