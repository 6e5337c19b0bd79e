"""The engine that runs jobs as SageMaker training jobs."""

from mlops.engines.cloud_settings import SageMakerSettings

__all__ = ["SageMakerSettings"]
