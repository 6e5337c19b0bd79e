"""`mlops engine`: what the engines need."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.exit_codes import ExitCode
from cli.output import console, emit_json

if TYPE_CHECKING:
    from mlops.engines.readiness import Account, Check
    from mlops.engines.readiness.settings import DeployedSettings

app = typer.Typer(no_args_is_help=True, help="The engines that run jobs.")

_FUNCTION = "LaunchRunFunction"
_VARIABLES = ("MLOPS_STORAGE", "MLOPS_SAGEMAKER", "MLOPS_BATCH")


@app.callback()
def engine() -> None:
    """The engines that run jobs."""


@app.command("check")
def check(
    stack: Annotated[
        str | None,
        typer.Option(
            help="Name of the deployed stack; without it the settings come from MLOPS_STORAGE, "
            "MLOPS_SAGEMAKER and MLOPS_BATCH."
        ),
    ] = None,
    instance_type: Annotated[
        list[str] | None,
        typer.Option(help="Look at the quotas of this type; may be given several times."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region [default: the profile's]")] = None,
    json: options.Json = False,
) -> None:
    """Check an AWS account: roles, quotas, images, queues and bucket. Changes nothing."""
    import boto3

    from mlops.engines.readiness import Account, check_account
    from mlops.storage.s3 import S3Store

    def make_client(service: str) -> Any:
        return boto3.client(service, region_name=region)

    account = Account(make_client)
    settings = _settings(account, stack)
    store = S3Store(settings.storage, account.client("s3"))
    checks = check_account(
        account, store, settings.sagemaker, settings.batch, tuple(instance_type or ())
    )
    ready = all(one.ok is not False for one in checks)
    if json:
        emit_json({"ok": ready, "checks": [asdict(one) for one in checks]})
    else:
        _print(checks)
    if not ready:
        raise typer.Exit(ExitCode.FAILED)


def _settings(account: "Account", stack: str | None) -> "DeployedSettings":
    from mlops.engines.readiness.settings import DeployedSettings

    if stack is None:
        return DeployedSettings.from_environment()
    function = account.client("cloudformation").describe_stack_resource(
        StackName=stack, LogicalResourceId=_FUNCTION
    )["StackResourceDetail"]["PhysicalResourceId"]
    described = account.client("lambda").get_function_configuration(FunctionName=function)
    variables = described.get("Environment", {}).get("Variables", {})
    return DeployedSettings.from_variables({name: variables.get(name, "") for name in _VARIABLES})


def _print(checks: "list[Check]") -> None:
    from rich.text import Text

    marks = {
        True: Text("ok  ", style="green"),
        False: Text("FAIL", style="bold red"),
        None: Text("?   ", style="yellow"),
    }
    screen = console()
    for one in checks:
        screen.print(marks[one.ok], Text(f"{one.name}: {one.detail}"))
        if one.advice:
            screen.print(Text(f"       {one.advice}", style="yellow"))
