"""Whether an AWS account is ready for the cloud engines, and what to do where it is not.

Nothing is changed in the account, but for a probe that is written to the bucket and removed.
"""

from collections.abc import Sequence

from mlops.engines.cloud_settings import BatchSettings, SageMakerSettings
from mlops.engines.readiness.account import Account
from mlops.engines.readiness.check import Check
from mlops.engines.readiness.on_batch import check_batch
from mlops.engines.readiness.on_sagemaker import check_sagemaker
from mlops.storage.s3 import S3Store

__all__ = ["Account", "Check", "check_account"]


def check_account(
    account: Account,
    store: S3Store,
    sagemaker: SageMakerSettings | None,
    batch: BatchSettings | None,
    instance_types: Sequence[str] = (),
) -> list[Check]:
    """Look at everything that jobs of the deployment need.

    Args:
        account: the account and region, as seen with one's own rights.
        store: the deployment's object store.
        sagemaker: settings of its SageMaker engine, if it has one.
        batch: settings of its Batch engine, if it has one.
        instance_types: what the quotas are looked at for; the engines' defaults when left out.
    """
    checks = [account.identity(), account.bucket(store)]
    if sagemaker is not None:
        checks += check_sagemaker(account, store, sagemaker, instance_types)
    if batch is not None:
        checks += check_batch(account, store, batch, instance_types)
    if sagemaker is None and batch is None:
        checks.append(
            Check(
                "engines",
                False,
                "neither SageMaker nor Batch is configured",
                "Name the deployment with --stack, or set MLOPS_SAGEMAKER or MLOPS_BATCH.",
            )
        )
    return checks
