"""The entrance to the SDK."""

from pathlib import Path

from mlops.api import Api
from mlops.sdk.data import Data
from mlops.sdk.endpoint import find_token, find_url
from mlops.sdk.models import Models
from mlops.sdk.runs import Runs
from mlops.sdk.workspaces import Workspaces


class Client:
    """A connection to a stac-mlops API.

    ``url`` is the API's; left out, ``$MLOPS_URL``, else what `mlops up` wrote into ``home``
    (``$MLOPS_HOME`` or ``./.mlops``), else ``http://127.0.0.1:8080``. ``workspace`` is meant
    wherever a call names none. ``patience`` is how many seconds an API that does not answer is
    waited for. ``token`` is what an API that asks who calls is shown, a JSON Web Token of its
    issuer; left out, ``$MLOPS_TOKEN``.

    >>> with Client("http://127.0.0.1:8080") as client:
    ...     client.url
    'http://127.0.0.1:8080'
    """

    def __init__(
        self,
        url: str | None = None,
        home: Path | str | None = None,
        *,
        workspace: str | None = None,
        patience: float = 20.0,
        token: str | None = None,
    ) -> None:
        found = find_url(url, home)
        self.api = Api(found, token or find_token(found, url, home), patience=patience)
        self.workspaces = Workspaces(self.api, workspace)
        self.data = Data(self.api, self.workspaces)
        self.runs = Runs(self.api, self.workspaces, self.data)
        self.models = Models(self.api, self.workspaces)

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.api.url

    def close(self) -> None:
        """Close the connections."""
        self.api.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
