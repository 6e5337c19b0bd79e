"""The service of one machine: starts every part, serves the API, and stops in good order."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from socket import socket
from typing import Annotated

import uvicorn
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from functions import launch_run, publish_resource, reconcile, register_model, track_run
from functions.catalogues import Catalogue
from functions.services import Services, SystemAuth, publish_job_change
from infra.local import StartupError
from infra.local.database import embedded_cluster, open_database
from infra.local.database import revive as revive_cluster
from infra.local.dispatcher import Dispatcher
from infra.local.home import Home
from infra.local.queue import LocalQueue
from mlops.api import Api
from mlops.engines.local import LocalEngine
from mlops.events import Function
from mlops.storage import ObjectStore, StorageError, open_store
from stac_api.app import create_app
from stac_api.logs import AddRequestId
from stac_api.settings import CommaSeparated
from stac_api.settings import Settings as ApiSettings

logger = logging.getLogger(__name__)

_FUNCTIONS = {
    Function.LAUNCH_RUN: launch_run.build,
    Function.TRACK_RUN: track_run.build,
    Function.REGISTER_MODEL: register_model.build,
    Function.PUBLISH_RESOURCE: publish_resource.build,
    Function.RECONCILE: reconcile.build,
}


class LocalSettings(BaseSettings):
    """What may be set on one machine; each replaces an embedded part."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore")

    database_url: SecretStr | None = None
    """A PostgreSQL database with PostGIS, instead of the embedded cluster."""
    storage: str | None = None
    """An object store, instead of the folder in the home."""
    slots: int = Field(default=1, ge=1)
    """How many jobs run at once."""
    catalogues: list[Catalogue] = []
    """JSON; where published models and datasets are registered."""
    public_hosts: Annotated[CommaSeparated, NoDecode] = []
    """Names that a proxy, which asks for a login, serves the API under."""


@dataclass(frozen=True)
class LocalContext:
    """What a handler is told of its invocation; the names are AWS Lambda's."""

    function_name: str
    memory_limit_in_mb: int = 0
    invoked_function_arn: str = "arn:aws:lambda:local:000000000000:function:local"
    aws_request_id: str = "local"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds that a handler has left."""
        return 900_000


def serve(home: Path, port: int | None, on_ready: Callable[[str], None]) -> None:
    """Run the stack of ``home`` until SIGINT or SIGTERM; ``on_ready`` gets the API's URL.

    ``port`` None is the remembered one or 8080, 0 any that is free. Raises
    :class:`~infra.local.StartupError` with a sentence when the stack cannot start.
    """
    place = Home(home)
    place.create()
    settings = LocalSettings()
    with ExitStack() as parts:
        parts.enter_context(_ended_by_signals())
        parts.enter_context(place.only_service())
        parts.enter_context(_logging_to(place.log))
        store = _store(settings, place)
        listener = parts.enter_context(place.listen(port))
        cluster = parts.enter_context(embedded_cluster(settings.database_url, place))
        database_url = open_database(settings.database_url, cluster)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        parts.callback(place.withdraw)
        try:
            revive = None if cluster is None else partial(revive_cluster, cluster)
            _serve(place, settings, store, listener, database_url, revive, url, on_ready)
        finally:
            logger.info("the service has stopped")


def _serve(
    place: Home,
    settings: LocalSettings,
    store: ObjectStore,
    listener: socket,
    database_url: str,
    revive: Callable[[], None] | None,
    url: str,
    on_ready: Callable[[str], None],
) -> None:
    secret = SecretStr(place.token_secret())
    app = create_app(
        ApiSettings(
            database_url=SecretStr(database_url),
            storage=store.url,
            token_secret=secret,
            engines=["local"],
            # No login on one machine: answer to its own names only, against DNS rebinding.
            trusted_hosts=["127.0.0.1", "localhost", *settings.public_hosts],
        )
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        # The application reads what proxies say, and from whom.
        proxy_headers=False,
    )
    server = _AnnouncingServer(config)
    with ExitStack() as parts:

        def begin() -> None:
            parts.enter_context(_events(place, settings, store, database_url, revive, url, secret))
            place.announce(url)
            on_ready(url)

        server.on_started = begin
        # Handlers in flight need the API: they end before it closes.
        server.on_stopping = parts.close
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
    if server.failed is not None:
        raise server.failed


class _AnnouncingServer(uvicorn.Server):
    """A server that calls ``on_started`` in a thread as soon as it answers, and ``on_stopping``
    while it still does."""

    on_started: Callable[[], None]
    on_stopping: Callable[[], None]
    failed: BaseException | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start to answer, then let the rest begin, which calls the API."""
        await super().startup(sockets)
        if not self.started:
            self.failed = StartupError("the API did not start; the log in the home says why")
            return
        try:
            await asyncio.to_thread(self.on_started)
        except Exception as error:  # noqa: BLE001 - raised again by the caller of the server
            self.failed = error
            self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let the rest end, then stop to answer."""
        await asyncio.to_thread(self.on_stopping)
        await super().shutdown(sockets)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, through every clean-up, and neither leaves it.

    uvicorn raises the signal that stopped it once more: by default SIGTERM would then end the
    process before PostgreSQL is stopped.
    """

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _events(
    place: Home,
    settings: LocalSettings,
    store: ObjectStore,
    database_url: str,
    revive: Callable[[], None] | None,
    url: str,
    secret: SecretStr,
) -> Iterator[None]:
    """The engine and the dispatcher, while the API answers."""
    queue = LocalQueue(database_url)
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    engine = LocalEngine(
        place.jobs,
        settings.slots,
        lambda document, state: publish_job_change(queue, LocalEngine.name, document, state),
        environment=environment,
    )
    services = Services(
        api=Api(url, auth=SystemAuth(secret)),
        store=store,
        engines={engine.name: engine},
        bus=queue,
        token_secret=secret,
        catalogues=tuple(settings.catalogues),
    )
    handlers = {function: build(services) for function, build in _FUNCTIONS.items()}
    _log_functions_here()
    dispatcher = Dispatcher(
        database_url,
        url,
        queue,
        handlers,
        lambda function: LocalContext(function.value),
        when_away=revive,
    )
    engine.recover()
    dispatcher.start()
    try:
        yield
    finally:
        engine.close()
        dispatcher.stop()
        services.api.close()
        queue.close()


def _store(settings: LocalSettings, place: Home) -> ObjectStore:
    try:
        store = open_store(settings.storage or str(place.store))
        store.check()
    except StorageError as error:
        raise StartupError(str(error)) from error
    return store


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """All of the service's logs, as JSON lines in one file that does not grow for ever."""
    handler = RotatingFileHandler(path, maxBytes=10 << 20, backupCount=3)
    handler.setFormatter(LambdaPowertoolsFormatter(utc=True))
    handler.addFilter(AddRequestId())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # One line a request would bury what matters.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def _log_functions_here() -> None:
    """The functions' loggers write to standard output, as Lambda wants it: not so here."""
    for function in Function:
        function_logger = logging.getLogger(function.value)
        function_logger.handlers.clear()
        function_logger.propagate = True
