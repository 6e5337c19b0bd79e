"""What is well and what is not on this machine, with what to do about it."""

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from infra.local import StartupError
from infra.local.home import Home
from infra.local.postgres import Cluster, find_binaries
from infra.local.queue import LocalQueue
from infra.local.service import LocalSettings
from mlops.storage import StorageError, open_store


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    advice: str | None = None


def diagnose(home: Path) -> list[Check]:
    """Look at everything that the stack of ``home`` needs; works with and without it running."""
    place, settings = Home(home), LocalSettings()
    return [
        Check("python", True, sys.version.split()[0]),
        _training(),
        _postgres(settings),
        _store(settings, place),
        *_running(settings, place),
    ]


def _training() -> Check:
    missing = [name for name in ("torch", "onnx", "onnxruntime", "rasterio") if not find_spec(name)]
    if missing:
        advice = "pip install 'stac-mlops[train-pytorch]'"
        return Check("training", False, f"{', '.join(missing)} not installed", advice)
    return Check("training", True, "PyTorch, ONNX Runtime and rasterio are installed")


def _postgres(settings: LocalSettings) -> Check:
    if settings.database_url is not None:
        return Check("postgresql", True, "not embedded: MLOPS_DATABASE_URL names a database")
    try:
        found = find_binaries()
    except StartupError as error:
        return Check("postgresql", False, "no usable installation", str(error))
    return Check("postgresql", True, f"PostgreSQL {found.version} with PostGIS in {found.folder}")


def _store(settings: LocalSettings, place: Home) -> Check:
    url = settings.storage or str(place.store)
    if settings.storage is None and not place.folder.is_dir():
        return Check("object store", True, f"{url} will be made by `mlops up`")
    try:
        store = open_store(url)
        store.check()
    except StorageError as error:
        return Check("object store", False, url, str(error))
    free = ""
    if settings.storage is None:
        free = f", {shutil.disk_usage(place.folder).free >> 30} GB free"
    return Check("object store", True, f"{store.url} can be written{free}")


def _running(settings: LocalSettings, place: Home) -> Iterator[Check]:
    url = place.endpoint()
    if url is None:
        yield Check("service", False, f"not running for {place.folder}", "mlops up")
        return
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as response:  # noqa: S310
            health = json.load(response)
    except (OSError, ValueError) as error:
        detail = f"was announced at {url}, but does not answer ({error})"
        yield Check("service", False, detail, f"mlops up; its log is {place.log}")
        return
    yield Check("service", True, f"answers at {url}, database {health['database']}")
    yield _attempt("event queue", lambda: _queue(database_url_of(settings, place)))


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (psycopg.Error, StartupError, OSError) as error:
        return Check(name, False, f"cannot be looked at: {error}", None)


def _queue(database_url: str) -> Check:
    queue = LocalQueue(database_url)
    try:
        letters = queue.dead_letters()
    finally:
        queue.close()
    if not letters:
        return Check("event queue", True, "no dead letters")
    lines = [
        f"{letter.function} #{letter.id} after {letter.receives} tries, {letter.died}: "
        f"{letter.last_error}"
        for letter in letters[:5]
    ]
    detail = f"{len(letters)} dead letters, the newest:\n" + "\n".join(lines)
    return Check("event queue", False, detail, "the service's log says more")


def database_url_of(settings: LocalSettings, place: Home) -> str:
    """The URL of the database of a stack that runs; StartupError when it does not."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    cluster = Cluster(place.folder)
    port = cluster.port()
    if port is None:
        raise StartupError("the embedded PostgreSQL does not run")
    return cluster.url(port)
