"""The API's settings: one typed object, made by the entry point and passed in."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.functional_validators import BeforeValidator

_PREFIX = "MLOPS_"


def _split(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


CommaSeparated = Annotated[list[str], BeforeValidator(_split)]


class EnvironmentSettings(BaseModel):
    """Settings that are read from ``MLOPS_``-prefixed variables where they are not given.

    An empty variable counts as not given: a template cannot leave one out. pydantic-settings does
    the same, but brings readers of files, command lines and clouds along, which took a tenth of the
    time of a cold start.
    """

    # What is wrong is told without what was given: secrets are among it.
    model_config = ConfigDict(extra="ignore", validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _read_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        variables = {name: os.environ.get(_PREFIX + name.upper()) for name in cls.model_fields}
        return {name: text for name, text in variables.items() if text} | given


class DatabaseSettings(EnvironmentSettings):
    """Where the database is, and how it is entered."""

    database_url: SecretStr | None = None
    database_secret_arn: str | None = None
    """A secret of AWS Secrets Manager instead of the URL: ``{"url": "postgresql://..."}``, or
    ``{"username": ..., "password": ...}`` as Aurora makes it, with host and name given here."""
    database_host: str | None = None
    database_port: Annotated[int, Field(ge=1, le=65535)] = 5432
    database_name: str = "mlops"
    database_sslmode: Literal["disable", "prefer", "require", "verify-full"] = "require"
    """For a host that is given here; a URL says it itself."""

    @model_validator(mode="after")
    def _has_a_database(self) -> Self:
        if (self.database_url is None) == (self.database_secret_arn is None):
            raise ValueError(
                "set one of MLOPS_DATABASE_URL (database_url) and MLOPS_DATABASE_SECRET_ARN"
            )
        return self


class Settings(DatabaseSettings):
    """Settings of the STAC API; from ``MLOPS_``-prefixed variables where not given."""

    storage: str
    """Object store: ``s3://bucket/prefix``, ``file:///folder`` or a path."""
    token_secret: SecretStr | None = None
    """Signs the tokens of functions and jobs."""
    token_secret_arn: str | None = None
    """The same in AWS Secrets Manager, as ``{"secret": "..."}``; one of both must be given."""
    engines: CommaSeparated = ["local"]
    """Engines that runs may ask for; the first is the default."""
    title: str = "stac-mlops"
    description: str = "Training data, training runs and models as STAC Items"
    system_path: str = ""
    """Path of the door, beside the users', where functions and jobs come in with signed requests.
    Set it where API Gateway stands before the API and lets nobody in whom it does not know: a
    request on which it says nothing of the caller is refused then."""
    relay_queue_url: str | None = None
    """Queue of SQS that is told when there are events to relay."""
    root_path: str = ""
    """Path prefix that a proxy strips before the request arrives."""
    trusted_proxies: CommaSeparated = []
    """Addresses and networks of proxies whose ``X-Forwarded-*`` headers, or ``Forwarded`` where
    there are none, are believed; ``*`` where nothing but one proxy can reach the API."""
    cors_origins: CommaSeparated = ["*"]
    """Origins whose pages may read; with ``*`` they may not write."""
    trusted_hosts: CommaSeparated = ["*"]
    """Host headers that are answered; narrow on one machine, against DNS rebinding."""
    max_body_bytes: Annotated[int, Field(gt=0)] = 2 << 20
    """Largest item or collection that is accepted."""
    extension_schemas: Path | None = None
    """Folder of JSON Schemas of extensions, beside those that are built in: a file is known by its
    ``$id``, or as ``{name}-v{version}.json`` by the URL that such an extension is published at."""
    require_if_match: bool = False
    """Whether replacing (PUT) an item or collection needs ``If-Match``; without it, 428."""
    max_log_bytes: Annotated[int, Field(gt=0)] = 16 << 20
    """How much of a run's log is kept live; the whole of it is an asset at the end."""
    pool_size: Annotated[int, Field(ge=1, le=100)] = 10
    """How many database connections are open at most."""
    pool_patience_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long a request waits for a free connection before it is answered with 503."""
    statement_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, names: list[str]) -> list[str]:
        for name in names:
            if name != "*":
                ip_network(name)
        return names

    @field_validator("root_path", "system_path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if path and (not path.startswith("/") or path.startswith("//")):
            raise ValueError("a path must begin with one slash, such as /stac")
        return path.rstrip("/")

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if (self.token_secret is None) == (self.token_secret_arn is None):
            raise ValueError(
                "set one of MLOPS_TOKEN_SECRET (token_secret) and MLOPS_TOKEN_SECRET_ARN"
            )
        return self
