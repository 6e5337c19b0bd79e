"""Options that commands share, and the connection that they describe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlops.sdk import Client

# Before the first answer an API that is away is an error soon; later it may come back.
_FIRST_PATIENCE = 1.5
# A database in the cloud that nobody used for a while has to wake up.
_FIRST_PATIENCE_AFAR = 40.0
_LATER_PATIENCE = 60.0

Json = Annotated[
    bool, typer.Option("--json", help="JSON on stdout, messages on stderr.", show_default=False)
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The API [default: $MLOPS_URL, else that of --home]; $MLOPS_TOKEN says who you are.",
        metavar="URL",
    ),
]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of `mlops up` [default: $MLOPS_HOME, else .mlops].", metavar="DIR"
    ),
]
Workspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The workspace [default: $MLOPS_WORKSPACE, else the only one].",
        metavar="WS",
    ),
]


def connect(url: str | None, home: Path | None, workspace: str | None = None) -> "Client":
    """A client of the API that is meant; UnavailableError at once when nothing answers there."""
    from mlops.sdk import Client
    from mlops.sdk.endpoint import is_on_this_machine

    try:
        client = Client(url, home, workspace=workspace, patience=_FIRST_PATIENCE)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not is_on_this_machine(client.url):
        client.api.patience = _FIRST_PATIENCE_AFAR
    client.api.get_json("/healthz")
    client.api.patience = _LATER_PATIENCE
    return client
