"""AWS's errors, in the words of engines.

A call that AWS throttles, or that meets a quota which others use up, is an
:class:`~mlops.engines.EngineBusyError`: the queue repeats it. Whatever is not understood here is
left as it is and ends, after redeliveries, in the dead-letter queue.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops.engines import EngineBusyError, EngineRefusedError

_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "SlowDown",
    }
)
_THROTTLED_SECONDS = 15.0
_QUOTA_SECONDS = 240.0
_QUOTA = re.compile(
    r"limit (?:'(?P<name>[^']+)'|for (?P<other>\S+)) is (?P<limit>\d+) .*"
    r"utilization of (?P<used>\d+) .*request delta of (?P<delta>\d+)",
    re.DOTALL,
)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Calls of AWS inside raise :class:`EngineBusyError` where they are to be repeated later."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        busy = busy_error(error)
        if busy is None:
            raise
        raise busy from error


def busy_error(error: Any) -> EngineBusyError | EngineRefusedError | None:
    """What a botocore ``ClientError`` means for a job; None when it says nothing of quotas."""
    code, message = error_code(error), error_message(error)
    if code in _THROTTLED or _http_status(error) == 429:
        return EngineBusyError(f"AWS asks for fewer requests ({code}).", _THROTTLED_SECONDS)
    if code == "ResourceLimitExceeded":
        return _quota_error(message)
    return None


def error_code(error: Any) -> str:
    """The code of a botocore ``ClientError``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: Any) -> str:
    """AWS's sentence in a botocore ``ClientError``."""
    return str(error.response.get("Error", {}).get("Message", ""))


def cloud_client(service: str, *, repeat: bool = True) -> Any:
    """A boto3 client with short waits, so that a function answers well before its time is up.

    Args:
        service: such as ``sagemaker``.
        repeat: whether botocore may repeat a call by itself after a fault; not for calls that do
            a second time what they did the first time.
    """
    import boto3
    from botocore.config import Config

    attempts = {"mode": "standard", "total_max_attempts": 3 if repeat else 1}
    return boto3.client(
        service, config=Config(connect_timeout=5, read_timeout=20, retries=attempts)
    )


def _quota_error(message: str) -> EngineBusyError | EngineRefusedError:
    found = _QUOTA.search(message)
    if found is not None and int(found["delta"]) > int(found["limit"]):
        # No waiting helps: the whole quota is smaller than this one job.
        name = found["name"] or found["other"]
        return EngineRefusedError(
            f"The quota {name!r} of this AWS account is {found['limit']}, and the run needs "
            f"{found['delta']}: take another instance type or fewer of them, or have the quota "
            "raised (Service Quotas, Amazon SageMaker)."
        )
    return EngineBusyError(f"A quota of the AWS account is used up: {message}", _QUOTA_SECONDS)


def _http_status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
