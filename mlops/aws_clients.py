"""boto3's clients for calls that somebody waits for."""

from typing import Any


def prompt_client(service: str) -> Any:
    """A boto3 client that gives up within some ten seconds.

    By itself it waits for minutes, and a function's time is up before that: what it has done would
    look undone to its caller.
    """
    import boto3
    from botocore.config import Config

    attempts = {"mode": "standard", "total_max_attempts": 2}
    return boto3.client(service, config=Config(connect_timeout=2, read_timeout=3, retries=attempts))
