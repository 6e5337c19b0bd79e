"""The API's settings: one typed object, made by the entry point and passed in."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Settings of the STAC API; from ``MLOPS_``-prefixed variables where not given."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore")

    database_url: SecretStr
    storage: str
    """Object store: ``s3://bucket/prefix``, ``file:///folder`` or a path."""
    token_secret: SecretStr
    """Signs the tokens of functions and jobs."""
    engines: CommaSeparated = ["local"]
    """Engines that runs may ask for; the first is the default."""
    title: str = "stac-mlops"
    description: str = "Training data, training runs and models as STAC Items"
    root_path: str = ""
    """Path prefix that a proxy strips before the request arrives."""
    trusted_proxies: CommaSeparated = []
    """Addresses and networks of proxies whose ``Forwarded`` and ``X-Forwarded-*`` headers are
    believed; ``*`` where nothing but a proxy can reach the API."""
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

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        if path and (not path.startswith("/") or path.startswith("//")):
            raise ValueError("root_path must begin with one slash, such as /stac")
        return path.rstrip("/")
