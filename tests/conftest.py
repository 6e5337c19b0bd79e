"""Fixtures on real parts: a PostgreSQL cluster, the API served by uvicorn, an object store."""

import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import uvicorn
from pydantic import SecretStr

from infra.local.postgres import Cluster
from mlops.api import Api
from mlops.identity import issue_job_token, issue_system_token
from mlops.storage import ObjectStore, open_store
from stac_api.app import create_app
from stac_api.migrate import migrate
from stac_api.settings import Settings
from tests.moto_server import Aws, aws_account

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches the programs that tests start: a shell that starts the tests in the background
    has them ignore it, and their children with them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data kept beside the project; tests that need it are skipped where it is not."""
    folder = SHARED / "data" / "sentinel2-ndvi-lulc"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL cluster for the whole session."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-tests-"))
    # The server may run as another user, who has to get in.
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """The URL of a migrated database that others are cloned from; it must have no sessions."""
    port = cluster.port()
    assert port is not None
    url = cluster.url(port)
    migrate(url)
    return url


@pytest.fixture
def database_url(template: str) -> Iterator[str]:
    """A fresh database, migrated."""
    name = f"test_{secrets.token_hex(6)}"
    source = template.rsplit("/", 1)[1]
    administration = template.removesuffix(source) + "postgres"
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
    yield template.removesuffix(source) + name
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An empty AWS account, as moto serves it."""
    with aws_account(monkeypatch) as account:
        yield account


@dataclass
class ApiServer:
    """A served API and what is needed to talk to it."""

    url: str
    settings: Settings

    @property
    def secret(self) -> str:
        return self.settings.token_secret.get_secret_value()

    @property
    def store(self) -> ObjectStore:
        return open_store(self.settings.storage)

    def user(self) -> Api:
        """A client without a token."""
        return Api(self.url, patience=0)

    def system(self) -> Api:
        """A client with the system's rights."""
        return Api(self.url, issue_system_token(self.secret, "tests"), patience=0)

    def job(self, collection: str, item: str, attempt: int = 1) -> Api:
        """A client with the rights of a run's job."""
        token = issue_job_token(self.secret, collection, item, attempt, lifetime=600)
        return Api(self.url, token, patience=0)


@pytest.fixture
def api_server(database_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    """The API over HTTP on a free port."""
    settings = Settings(
        database_url=SecretStr(database_url),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
    )
    with serving(settings) as url:
        yield ApiServer(url, settings)


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The API in a thread of its own; its URL."""
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=0,
        log_level="warning",
        lifespan="on",
        # The application reads what proxies say, and from whom.
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def startup_and_tell(sockets: object = None) -> None:
        await startup(sockets)  # type: ignore[arg-type]
        started.set()

    server.startup = startup_and_tell  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(30), "the API did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
