"""Where the API is: said by the caller, by the environment, or by the home of `mlops up`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_HOME = Path(".mlops")
ENDPOINT_FILE = "endpoint.json"
URL_ENV = "MLOPS_URL"
HOME_ENV = "MLOPS_HOME"
TOKEN_ENV = "MLOPS_TOKEN"  # noqa: S105 - the name of a variable, not its value


def find_home(home: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of `mlops up`: as given, else ``$MLOPS_HOME``, else ``./.mlops``."""
    return Path(home or environ.get(HOME_ENV) or DEFAULT_HOME)


def find_url(
    url: str | None = None,
    home: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The URL of the API.

    As given, else ``$MLOPS_URL``, else what `mlops up` wrote into the home, else the usual one. A
    home that is named by the caller counts before the environment's URL.

    >>> find_url("http://mlops.example/")
    'http://mlops.example'
    """
    chosen = url or (None if home else environ.get(URL_ENV))
    chosen = chosen or _written_url(find_home(home, environ)) or DEFAULT_URL
    return chosen.rstrip("/")


def find_token(
    url: str,
    given: str | None = None,
    home: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str | None:
    """The token to show the API at ``url``: ``$MLOPS_TOKEN``, where the environment or the caller
    (``given``) named that URL. What `mlops up` started on this machine asks for none.

    Raises:
        ValueError: anybody on the way could read it.

    >>> find_token("https://mlops.example", "https://mlops.example", environ={"MLOPS_TOKEN": "t"})
    't'
    """
    token = (environ.get(TOKEN_ENV) or "").strip()
    named = given or (None if home else environ.get(URL_ENV))
    if not token or not named:
        return None
    if not url.startswith("https://") and not is_on_this_machine(url):
        raise ValueError(f"{TOKEN_ENV} is not sent to {url} in the clear: use https")
    return token


def is_on_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine.

    >>> is_on_this_machine("http://127.0.0.1:8080"), is_on_this_machine("https://mlops.example")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _written_url(home: Path) -> str | None:
    path = home / ENDPOINT_FILE
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["url"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not name the API's URL: start `mlops up --home {home}` again, or give "
            "--url"
        ) from error
