"""What the functions work with: settings, and the clients made from them by the entry point."""

import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import httpx
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from functions.catalogues import Catalogue
from functions.schedule import Schedule, ScheduleRule
from functions.waiting import LaunchQueue
from mlops.api import Api
from mlops.aws_secrets import AwsSecret, TokenSecret
from mlops.engines import Engine, JobState
from mlops.engines.cloud_settings import BatchSettings, SageMakerSettings
from mlops.events import EventBus, job_event
from mlops.identity import issue_job_token, issue_system_token
from mlops.jobs import JobDocument
from mlops.storage import ObjectStore, StorageError, open_store

if TYPE_CHECKING:
    from mlops.storage.s3 import S3Store

_TOKEN_LIFETIME = 3600
_TOKEN_MARGIN = 300
_NAME = "functions"


class Settings(BaseSettings):
    """Settings of the functions; from ``MLOPS_``-prefixed variables where not given.

    An empty variable counts as not given: a template cannot leave one out.
    """

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore", env_ignore_empty=True)

    api_url: str
    """Root of the STAC API, as functions and jobs reach it."""
    api_signed: bool = False
    """Whether requests to the API are signed with AWS credentials (SigV4) beside their token."""
    storage: str
    """Object store: ``s3://bucket/prefix``, ``file:///folder`` or a path."""
    token_secret: SecretStr | None = None
    """Signs the tokens of functions and jobs; the API's own."""
    token_secret_arn: str | None = None
    """The same in AWS Secrets Manager, as ``{"secret": "..."}``; one of both must be given."""
    event_bus: str = "default"
    """Name of the EventBridge bus."""
    schedule_rule: str | None = None
    """Name of the rule that runs ``reconcile``; enabled while runs are open, then disabled."""
    launch_queue_url: str | None = None
    """The queue of ``launch_run``, where runs wait for an engine that is busy."""
    launch_patience_seconds: float = Field(default=600.0, gt=0)
    """How long an event of acceptance may be on its way before ``reconcile`` sends it again; longer
    than thousands of them need to pass through the queue."""
    sagemaker: SageMakerSettings | None = None
    """JSON; without it there is no SageMaker engine."""
    batch: BatchSettings | None = None
    """JSON; without it there is no Batch engine."""
    catalogues: list[Catalogue] = []
    """JSON; where published models and datasets are registered."""
    jobs_folder: Path | None = None
    """Where the local engine keeps its jobs; without it there is no local engine."""
    slots: int = Field(default=1, ge=1)
    """How many jobs the local engine runs at once."""

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if (self.token_secret is None) == (self.token_secret_arn is None):
            raise ValueError("set one of MLOPS_TOKEN_SECRET_ARN and MLOPS_TOKEN_SECRET")
        return self


class Secret(Protocol):
    """A secret that is told when it is needed: pydantic's SecretStr, or one that is rotated."""

    def get_secret_value(self) -> str:
        """The secret as it is now."""
        ...


class SystemToken:
    """The token of the system, issued anew before it expires and when its secret was rotated; safe
    to share between threads."""

    def __init__(self, secret: Secret, name: str = _NAME) -> None:
        self._secret = secret
        self._name = name
        self._lock = threading.Lock()
        self._signed_with = ""
        self._token = ""
        self._renew_at = 0.0

    def refused(self) -> bool:
        """The API does not take the token; True when there may be a newer secret to sign with."""
        return isinstance(self._secret, TokenSecret) and self._secret.refresh()

    def __call__(self) -> str:
        """A token that is good for some minutes at least."""
        secret = self._secret.get_secret_value()
        with self._lock:
            if secret != self._signed_with or time.monotonic() >= self._renew_at:
                self._signed_with = secret
                self._token = issue_system_token(secret, self._name, _TOKEN_LIFETIME)
                self._renew_at = time.monotonic() + _TOKEN_LIFETIME - _TOKEN_MARGIN
            return self._token


class SystemAuth(httpx.Auth):
    """Adds the token of the system to each request."""

    def __init__(self, secret: Secret, name: str = _NAME) -> None:
        self._token = SystemToken(secret, name)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token; httpx calls this for each request."""
        request.headers["Authorization"] = f"Bearer {self._token()}"
        yield request


@dataclass(frozen=True)
class Services:
    """The clients that the functions use; safe to share between threads.

    On one machine there is neither schedule nor launch queue: the dispatcher has the one, and the
    local engine queues what it is given.
    """

    api: Api
    store: ObjectStore
    engines: Mapping[str, Engine]
    bus: EventBus
    token_secret: Secret
    schedule: Schedule | None = None
    launch_queue: LaunchQueue | None = None
    catalogues: tuple[Catalogue, ...] = ()
    api_signed: bool = False
    """Whether jobs, too, sign their requests to the API with AWS credentials."""
    launch_patience: timedelta = timedelta(seconds=30)

    def job_token(self, collection: str, item: str, attempt: int, lifetime: int) -> str:
        """A token for the job of a run's attempt; ``lifetime`` in seconds."""
        secret = self.token_secret.get_secret_value()
        return issue_job_token(secret, collection, item, attempt, lifetime)


def services_from(settings: Settings) -> Services:
    """Make the clients that ``settings`` describe."""
    from mlops.event_bridge import EventBridgeBus

    bus = EventBridgeBus(settings.event_bus)
    store = open_store(settings.storage)
    secret = _token_secret(settings)
    rule, queue_url = settings.schedule_rule, settings.launch_queue_url
    return Services(
        api=Api(settings.api_url, auth=_auth(settings, secret)),
        store=store,
        engines=_engines(settings, bus, store),
        bus=bus,
        token_secret=secret,
        schedule=None if rule is None else ScheduleRule(rule),
        launch_queue=None if queue_url is None else LaunchQueue(queue_url),
        catalogues=tuple(settings.catalogues),
        api_signed=settings.api_signed,
        launch_patience=timedelta(seconds=settings.launch_patience_seconds),
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


def _token_secret(settings: Settings) -> Secret:
    if settings.token_secret_arn is not None:
        return TokenSecret(AwsSecret(settings.token_secret_arn))
    assert settings.token_secret is not None
    return settings.token_secret


def _auth(settings: Settings, secret: Secret) -> httpx.Auth:
    if not settings.api_signed:
        return SystemAuth(secret)
    from mlops.signing import SignedAuth

    token = SystemToken(secret)
    return SignedAuth(settings.api_url, token, refused=token.refused)


def _engines(settings: Settings, bus: EventBus, store: ObjectStore) -> dict[str, Engine]:
    made: list[Engine] = []
    if settings.sagemaker is not None:
        from mlops.engines.sagemaker import SageMakerEngine

        made.append(SageMakerEngine(settings.sagemaker, _bucket(store)))
    if settings.batch is not None:
        from mlops.engines.batch import BatchEngine

        made.append(BatchEngine(settings.batch, _bucket(store)))
    if settings.jobs_folder is not None:
        made.append(_local_engine(settings.jobs_folder, settings.slots, bus))
    return {engine.name: engine for engine in made}


def _bucket(store: ObjectStore) -> "S3Store":
    from mlops.storage.s3 import S3Store

    if not isinstance(store, S3Store):
        raise StorageError(
            f"SageMaker and Batch read what they need from S3, and the object store is {store.url}:"
            " name a bucket with MLOPS_STORAGE=s3://..."
        )
    return store


def _local_engine(folder: Path, slots: int, bus: EventBus) -> Engine:
    from mlops.engines.local import LocalEngine

    engine = LocalEngine(
        folder,
        slots,
        lambda document, state: publish_job_change(bus, LocalEngine.name, document, state),
    )
    engine.recover()
    return engine
