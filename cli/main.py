"""The `mlops` command."""

from typing import Annotated

import typer

from cli import data, dlq, engine, local, model, run, workspace
from cli.demo import command as demo
from cli.failures import FailingGroup

_EPILOG = (
    "Exit codes: 0 fine; 1 a run or a check failed, or any other error; 2 not understood; "
    "3 the API cannot be reached; 4 not found; 5 conflict; 6 input refused."
)

app = typer.Typer(
    name="mlops",
    cls=FailingGroup,
    no_args_is_help=True,
    help="MLOps for Earth observation on a STAC API: datasets, training runs and models.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)
app.command("up")(local.up)
app.command("demo")(demo.demo)
app.command("doctor")(local.doctor)
app.add_typer(workspace.app, name="workspace")
app.add_typer(data.app, name="data")
app.add_typer(run.app, name="run")
app.add_typer(model.app, name="model")
app.add_typer(engine.app, name="engine")
app.add_typer(dlq.app, name="dlq")


def _print_version(wanted: bool) -> None:
    if wanted:
        from mlops import __version__

        typer.echo(f"mlops {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """MLOps for Earth observation on a STAC API: datasets, training runs and models."""


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
