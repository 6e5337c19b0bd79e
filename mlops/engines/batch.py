"""The engine that runs jobs on AWS Batch."""

from mlops.engines.cloud_settings import BatchQueues, BatchSettings

__all__ = ["BatchQueues", "BatchSettings"]
