"""From an error to an exit code and a sentence on stderr."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cli.exit_codes import ExitCode

_EXTRA_OF = {
    "numpy": "data",
    "pyarrow": "data",
    "rasterio": "data",
    "onnx": "train-pytorch",
    "onnxruntime": "train-pytorch",
    "torch": "train-pytorch",
    "boto3": "functions",
}


class FailingGroup(TyperGroup):
    """The root of the commands: errors that are the user's to solve end as a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            failure = explain(error)
            if failure is None:
                raise
            code, sentence = failure
            typer.secho(f"Error: {sentence}", fg="red", err=True)
            raise typer.Exit(code) from error


def explain(error: Exception) -> tuple[ExitCode, str] | None:
    """The exit code and the sentence for an error, or None when it is a defect of ours."""
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error)
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has enough: Typer ends quietly.
        return None
    if isinstance(error, OSError):
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return ExitCode.FAILED, named
    kinds = _kinds()
    code = next((code for kind, code in kinds if isinstance(error, kind)), None)
    return None if code is None else (code, f"{error}{_advice(error)}")


def _advice(error: Exception) -> str:
    """What to do about an error whose sentence is the API's."""
    if getattr(error, "status", None) != 401:
        return ""
    return " (set MLOPS_TOKEN to a token of the deployment's issuer that has not expired)"


def _missing_module(error: ModuleNotFoundError) -> tuple[ExitCode, str]:
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0], "local")
    return (
        ExitCode.FAILED,
        f"this needs {error.name}, which is not installed: pip install 'stac-mlops[{extra}]'",
    )


def _kinds() -> list[tuple[type[Exception], ExitCode]]:
    """Kinds of error with their codes, the narrow before the wide; imported once one occurred."""
    from mlops import api
    from mlops.datasets import DatasetError
    from mlops.dead_letters import DeadLetterError
    from mlops.engines.cloud_settings import EngineSettingsError
    from mlops.engines.instance_types import InstanceTypesError
    from mlops.items.ids import InvalidIdError
    from mlops.sdk.assets import AssetError
    from mlops.sdk.workspaces import WorkspaceChoiceError
    from mlops.storage import StorageError

    kinds: list[tuple[type[Exception], ExitCode]] = [
        (api.NotFoundError, ExitCode.NOT_FOUND),
        (api.ConflictError, ExitCode.CONFLICT),
        (api.UnavailableError, ExitCode.UNREACHABLE),
        (api.ApiError, ExitCode.REFUSED),
        (api.FileChangedError, ExitCode.REFUSED),
        (DatasetError, ExitCode.REFUSED),
        (DeadLetterError, ExitCode.NOT_FOUND),
        (AssetError, ExitCode.REFUSED),
        (InvalidIdError, ExitCode.USAGE),
        (WorkspaceChoiceError, ExitCode.USAGE),
        (EngineSettingsError, ExitCode.USAGE),
        (InstanceTypesError, ExitCode.USAGE),
        (StorageError, ExitCode.FAILED),
    ]
    if "infra.local" in sys.modules:
        from infra.local import StartupError

        kinds.append((StartupError, ExitCode.FAILED))
    if "boto3" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        kinds += [(ClientError, ExitCode.FAILED), (BotoCoreError, ExitCode.FAILED)]
    return kinds
