"""Secrets in AWS Secrets Manager: JSON objects that are kept for a while and asked for anew.

A secret is rotated under whoever holds it: AWSCURRENT becomes AWSPREVIOUS, which counts on until
the next rotation. So whoever signs uses the current one, and whoever checks accepts both.
"""

import json
import logging
import threading
import time
from typing import Any

from mlops.aws_clients import prompt_client

logger = logging.getLogger(__name__)

CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"


class SecretError(Exception):
    """A secret is not what it should be; the message says what to put into it."""


class SecretAwayError(ConnectionError):
    """A secret cannot be read now, and no value of it is known; that may pass by itself."""


class AwsSecret:
    """A secret whose value is a JSON object; safe to share between threads.

    ``client`` is boto3's; one is made from the environment when it is first needed and none is
    given.
    """

    MAX_AGE = 300.0
    """Seconds that a value is believed for."""
    LEAST_PAUSE = 10.0
    """Seconds between two calls that :meth:`refresh` makes, at least."""

    def __init__(self, arn: str, client: Any = None) -> None:
        self.arn = arn
        self._client = client
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, str] | None] = {}
        self._believed: set[str] = set()
        self._asked = -float("inf")

    def current(self) -> dict[str, str]:
        """The value that counts now.

        Raises:
            SecretError: it is no JSON object.
            SecretAwayError: it cannot be read now, and was never read.
        """
        with self._lock:
            self._forget_if(time.monotonic() - self._asked >= self.MAX_AGE)
            value = self._read(CURRENT)
        if value is None:
            raise SecretError(f"The secret {self.arn} has no value: put a JSON object into it.")
        return value

    def previous(self) -> dict[str, str] | None:
        """The value before the last rotation; None when there was none."""
        with self._lock:
            self._forget_if(time.monotonic() - self._asked >= self.MAX_AGE)
            return self._read(PREVIOUS)

    def field(self, name: str) -> str:
        """A field of the value that counts now; SecretError when it has none of this name."""
        return _field(self.arn, self.current(), name)

    def refresh(self) -> bool:
        """Ask anew, for a caller whose value was refused; False when it was asked a moment ago.

        So refusals, of which strangers can cause as many as they like, cost few calls.
        """
        with self._lock:
            if time.monotonic() - self._asked < self.LEAST_PAUSE:
                return False
            self._forget_if(True)
            return True

    def _forget_if(self, wanted: bool) -> None:
        if wanted:
            self._believed.clear()

    def _read(self, stage: str) -> dict[str, str] | None:
        if stage in self._believed:
            return self._values[stage]
        try:
            if self._client is None:
                self._client = prompt_client("secretsmanager")
            self._values[stage] = _fetch(self._client, self.arn, stage)
        except Exception as error:
            # Rotation leaves the old value good for a long time: better that than none.
            if stage not in self._values:
                if isinstance(error, SecretError):
                    raise
                raise SecretAwayError(f"{self.arn} cannot be read now: {error}") from error
            logger.warning("%s cannot be read now, its old value is used: %s", self.arn, error)
        self._believed.add(stage)
        self._asked = time.monotonic()
        return self._values[stage]


class TokenSecret:
    """The secret that tokens are signed with, rotated in Secrets Manager: ``{"secret": "..."}``."""

    def __init__(self, secret: AwsSecret) -> None:
        self._secret = secret

    def get_secret_value(self) -> str:
        """The secret to sign with; named as pydantic's SecretStr names it, which stands in for
        this where the secret is given."""
        return self._secret.field("secret")

    def accepted(self) -> list[str]:
        """The secrets that a valid token may be signed with, the current one first."""
        before = self._secret.previous()
        earlier = [] if before is None else [_field(self._secret.arn, before, "secret")]
        return [self.get_secret_value(), *earlier]

    def refresh(self) -> bool:
        """See :meth:`AwsSecret.refresh`."""
        return self._secret.refresh()


def _fetch(client: Any, arn: str, stage: str) -> dict[str, str] | None:
    try:
        answer = client.get_secret_value(SecretId=arn, VersionStage=stage)
    except client.exceptions.ResourceNotFoundException:
        if stage == PREVIOUS:
            return None
        raise
    try:
        value = json.loads(answer["SecretString"])
    except (KeyError, ValueError):
        value = None
    if not isinstance(value, dict):
        # Without the text, and without what the parser says of it: that could be the secret.
        raise SecretError(f"The secret {arn} is not a JSON object: put one into it.")
    return {str(name): str(content) for name, content in value.items()}


def _field(arn: str, value: dict[str, str], name: str) -> str:
    if not value.get(name):
        raise SecretError(f"The secret {arn} has no {name!r}: add that field to its JSON.")
    return value[name]
