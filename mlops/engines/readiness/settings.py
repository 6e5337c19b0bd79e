"""The settings of a deployment's engines, as its functions have them."""

from collections.abc import Mapping
from typing import Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops.engines.cloud_settings import BatchSettings, EngineSettingsError, SageMakerSettings


class DeployedSettings(BaseSettings):
    """``MLOPS_STORAGE``, ``MLOPS_SAGEMAKER`` and ``MLOPS_BATCH``; empty ones count as not given."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore", env_ignore_empty=True)

    storage: str
    sagemaker: SageMakerSettings | None = None
    batch: BatchSettings | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """The settings in this process's environment; raises :class:`EngineSettingsError`."""
        try:
            # The environment gives what the signature demands.
            return cls()  # type: ignore[call-arg]
        except ValidationError as error:
            raise EngineSettingsError(_sentence(error)) from error

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Self:
        """The settings in a function's variables; raises :class:`EngineSettingsError`."""
        sagemaker, batch = variables.get("MLOPS_SAGEMAKER"), variables.get("MLOPS_BATCH")
        try:
            return cls(
                storage=variables.get("MLOPS_STORAGE", ""),
                sagemaker=SageMakerSettings.model_validate_json(sagemaker) if sagemaker else None,
                batch=BatchSettings.model_validate_json(batch) if batch else None,
            )
        except ValidationError as error:
            raise EngineSettingsError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    )
    return (
        f"the engines' settings are not as they should be ({faults}). Name the deployment with "
        "--stack, or set MLOPS_STORAGE and MLOPS_SAGEMAKER or MLOPS_BATCH."
    )
