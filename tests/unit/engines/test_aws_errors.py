"""What errors of AWS mean for a job."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from mlops.engines import EngineBusyError, EngineRefusedError
from mlops.engines.aws_errors import engine_errors


def error(code: str, message: str = "", status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "CreateTrainingJob")


def quota(
    limit: int, used: int, delta: int, name: str = "'ml.g5.xlarge for training job usage'"
) -> str:
    return (
        f"The account-level service limit {name} is {limit} Instances, with current utilization "
        f"of {used} Instances and a request delta of {delta} Instances. Please contact AWS."
    )


@pytest.mark.parametrize(
    "given",
    [
        error("ThrottlingException", "Rate exceeded"),
        error("TooManyRequestsException"),
        error("SlowDown", status=503),
        error("Anything", status=429),
        error("ResourceLimitExceeded", quota(2, 2, 1)),
        error("ResourceLimitExceeded", quota(2, 3, 1)),
        error("ResourceLimitExceeded", quota(4, 1, 4, "for training-job/ml.p2.xlarge")),
        error("ResourceLimitExceeded", "A sentence that AWS never wrote before"),
    ],
)
def test_what_passes_is_being_busy(given: ClientError) -> None:
    with pytest.raises(EngineBusyError) as busy, engine_errors():
        raise given
    assert 1 <= busy.value.retry_after <= 900


@pytest.mark.parametrize("name", ["'ml.p2.xlarge for training job usage'", "for job/ml.p2.xlarge"])
def test_a_quota_that_never_suffices_is_a_refusal(name: str) -> None:
    with (
        pytest.raises(EngineRefusedError, match=r"ml\.p2\.xlarge.* is 0.* needs 2"),
        engine_errors(),
    ):
        raise error("ResourceLimitExceeded", quota(0, 0, 2, name))


def test_the_rest_stays_what_it_is() -> None:
    with pytest.raises(ClientError, match="AccessDenied"), engine_errors():
        raise error("AccessDeniedException", status=403)
