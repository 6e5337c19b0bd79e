"""What the functions work with: settings, and the clients made from them by the entry point."""

import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops.api import Api
from mlops.engines import Engine, JobState
from mlops.events import EventBus, job_event
from mlops.identity import issue_job_token, issue_system_token
from mlops.jobs import JobDocument
from mlops.storage import ObjectStore, open_store

_TOKEN_LIFETIME = 3600
_TOKEN_MARGIN = 300


class Settings(BaseSettings):
    """Settings of the functions; from ``MLOPS_``-prefixed variables where not given."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore")

    api_url: str
    """Root of the STAC API, as functions and jobs reach it."""
    storage: str
    """Object store: ``s3://bucket/prefix``, ``file:///folder`` or a path."""
    token_secret: SecretStr
    """Signs the tokens of functions and jobs; the API's own."""
    event_bus: str = "default"
    """Name of the EventBridge bus."""
    jobs_folder: Path | None = None
    """Where the local engine keeps its jobs; without it there is no local engine."""
    slots: int = Field(default=1, ge=1)
    """How many jobs the local engine runs at once."""


class SystemAuth(httpx.Auth):
    """Signs each request with a token of the system, renewed before it expires."""

    def __init__(self, secret: SecretStr, name: str = "functions") -> None:
        self._secret = secret
        self._name = name
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token; httpx calls this for each request."""
        request.headers["Authorization"] = f"Bearer {self._current()}"
        yield request

    def _current(self) -> str:
        with self._lock:
            if time.monotonic() >= self._renew_at:
                secret = self._secret.get_secret_value()
                self._token = issue_system_token(secret, self._name, _TOKEN_LIFETIME)
                self._renew_at = time.monotonic() + _TOKEN_LIFETIME - _TOKEN_MARGIN
            return self._token


@dataclass(frozen=True)
class Services:
    """The clients that the functions use; safe to share between threads."""

    api: Api
    store: ObjectStore
    engines: Mapping[str, Engine]
    bus: EventBus
    token_secret: SecretStr

    def job_token(self, collection: str, item: str, attempt: int, lifetime: int) -> str:
        """A token for the job of a run's attempt; ``lifetime`` in seconds."""
        secret = self.token_secret.get_secret_value()
        return issue_job_token(secret, collection, item, attempt, lifetime)


def services_from(settings: Settings) -> Services:
    """Make the clients that ``settings`` describe."""
    from functions.event_bridge import EventBridgeBus

    bus = EventBridgeBus(settings.event_bus)
    return Services(
        api=Api(settings.api_url, auth=SystemAuth(settings.token_secret)),
        store=open_store(settings.storage),
        engines=_engines(settings, bus),
        bus=bus,
        token_secret=settings.token_secret,
    )


def publish_job_change(bus: EventBus, engine: str, document: JobDocument, state: JobState) -> None:
    """Tell the bus where the job of a run stands."""
    bus.publish(
        job_event(
            engine,
            document.name,
            state,
            workspace=document.workspace,
            collection=document.collection,
            item=document.item,
            attempt=document.attempt,
            request_id=document.request_id,
        )
    )


def _engines(settings: Settings, bus: EventBus) -> dict[str, Engine]:
    if settings.jobs_folder is None:
        return {}
    from mlops.engines.local import LocalEngine

    engine = LocalEngine(
        settings.jobs_folder,
        settings.slots,
        lambda document, state: publish_job_change(bus, LocalEngine.name, document, state),
    )
    engine.recover()
    return {engine.name: engine}
