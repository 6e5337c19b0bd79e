"""One thing that was looked at in an account."""

from collections.abc import Callable
from dataclasses import dataclass

from mlops.engines.aws_errors import error_code, error_message

_NO_RIGHT = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "AuthorizationError",
        "AuthorizationErrorException",
    }
)


@dataclass(frozen=True)
class Check:
    """What was found. ``ok`` is None where one's own rights do not reach to look."""

    name: str
    ok: bool | None
    detail: str
    advice: str | None = None


def looked(name: str, look: Callable[[], Check]) -> Check:
    """What ``look`` finds; AWS's refusal to show it, or that it is not there, as a check too."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return look()
    except ClientError as error:
        code, message = error_code(error), error_message(error)
        if code in _NO_RIGHT:
            advice = "Ask somebody with the right to look to run this check."
            return Check(name, None, f"cannot be looked at with your rights ({code})", advice)
        return Check(name, False, f"{code}: {message}", "Correct it in the deployment's settings.")
    except BotoCoreError as error:
        advice = "Check the credentials, the region and the network of this machine."
        return Check(name, False, str(error), advice)
