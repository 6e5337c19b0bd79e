"""`mlops dlq`: messages that no retry could deliver."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.exit_codes import ExitCode
from cli.output import emit_json, print_facts, print_table, say

if TYPE_CHECKING:
    from mlops.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(no_args_is_help=True, help="Dead letters: messages that no retry could deliver.")

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        envvar="MLOPS_STACK",
        help="Name of the deployed stack; without it, the stack of --home on this machine.",
        metavar="NAME",
    ),
]
Region = Annotated[str | None, typer.Option(help="AWS region [default: the profile's]")]
Function = Annotated[
    str | None, typer.Option("--function", help="Of this function only, such as launch_run.")
]


@app.command("list")
def list_letters(
    stack: Stack = None,
    region: Region = None,
    home: options.Home = None,
    function: Function = None,
    json: options.Json = False,
) -> None:
    """List the dead letters, the newest last."""
    letters = _of(function, _letters(stack, region, home).read())
    if json:
        emit_json({"dead_letters": [_document(letter) for letter in letters]})
        return
    print_table(
        ("id", "function", "event", ">tries", "since", "error"),
        (
            (one.id, one.function, one.subject, one.receives, one.died, one.error or "see its log")
            for one in letters
        ),
        empty="There are no dead letters.",
    )


@app.command("show")
def show(
    letter: Annotated[str, typer.Argument(help="Id, or how it begins.", metavar="ID")],
    stack: Stack = None,
    region: Region = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show one dead letter with its event."""
    (found,) = _chosen(_letters(stack, region, home).read(), [letter])
    if json:
        emit_json(_document(found))
        return
    print_facts(
        [
            ("id", found.id),
            ("function", found.function),
            ("tries", found.receives),
            ("since", found.died),
            ("error", found.error or f"the log of {found.function} has it"),
        ]
    )
    emit_json(found.event or found.body)


@app.command("replay")
def replay(
    letters: Annotated[
        list[str] | None, typer.Argument(help="Ids, or how they begin.", metavar="[ID]...")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    stack: Stack = None,
    region: Region = None,
    home: options.Home = None,
    function: Function = None,
    json: options.Json = False,
) -> None:
    """Put dead letters back into the queues of their functions, once what failed is mended."""
    if bool(letters) == every:
        raise typer.BadParameter("name letters by their ids, or give --all")
    place = _letters(stack, region, home)
    present = _of(function, place.read())
    chosen = present if every else _chosen(present, letters or [])
    place.replay(chosen)
    if json:
        emit_json({"replayed": [letter.id for letter in chosen]})
    else:
        say(f"{len(chosen)} put back" if chosen else "There are no dead letters.")


def _letters(stack: str | None, region: str | None, home: Path | None) -> "DeadLetters":
    if stack is not None and home is None:
        import boto3

        from mlops.dead_letters import StackDeadLetters

        def make_client(service: str) -> Any:
            return boto3.client(service, region_name=region)

        return StackDeadLetters(stack, make_client)
    from infra.local.dead_letters import LocalDeadLetters
    from infra.local.doctor import database_url_of
    from infra.local.home import Home
    from infra.local.service import LocalSettings
    from mlops.sdk.endpoint import find_home

    return LocalDeadLetters(database_url_of(LocalSettings(), Home(find_home(home).absolute())))


def _of(function: str | None, letters: "list[DeadLetter]") -> "list[DeadLetter]":
    return [letter for letter in letters if function in (None, letter.function)]


def _chosen(letters: "list[DeadLetter]", wanted: list[str]) -> "list[DeadLetter]":
    chosen = []
    for prefix in wanted:
        # A whole id is meant, also where others begin with it.
        whole = [letter for letter in letters if letter.id == prefix]
        found = whole or [letter for letter in letters if letter.id.startswith(prefix)]
        if len(found) != 1:
            what = "no dead letter" if not found else f"{len(found)} dead letters"
            say(f"Error: {what} with an id that begins with {prefix}: see `mlops dlq list`")
            raise typer.Exit(ExitCode.NOT_FOUND if not found else ExitCode.USAGE)
        chosen += found
    return chosen


def _document(letter: "DeadLetter") -> dict[str, Any]:
    return {
        "id": letter.id,
        "function": letter.function,
        "tries": letter.receives,
        "since": letter.died,
        "error": letter.error,
        "event": letter.event or letter.body,
    }
