"""Which IAM actions AWS calls need, and whether a policy allows them.

Calls are as `lambda_bootstrap` notes them; policies are documents of IAM with every reference
resolved. The needs of an operation: the service authorization reference,
https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.aws.account import ACCOUNT, REGION

Call = dict[str, Any]


@dataclass(frozen=True, order=True)
class Need:
    """An action on a resource; `*` where the service cannot name one."""

    action: str
    resource: str


class UnknownOperationError(Exception):
    """A function makes a call whose needs are not written here: add it to `_NEEDS`."""


def needs_of(call: Call) -> list[Need]:
    """The actions that a call needs.

    Raises:
        UnknownOperationError: this module does not know the operation.
    """
    known = _NEEDS.get((call["service"], call["operation"]))
    if known is None:
        raise UnknownOperationError(f"{call['service']} {call['operation']}")
    return list(known(call["params"], frozenset(call["given"])))


@dataclass(frozen=True)
class Allowed:
    """One action that a statement allows, on the resources of that statement."""

    action: str
    resources: tuple[str, ...]

    def covers(self, need: Need) -> bool:
        """Whether the need is met."""
        return fnmatch.fnmatchcase(need.action.lower(), self.action.lower()) and any(
            fnmatch.fnmatchcase(need.resource, pattern)
            or (need.resource.endswith("-") and pattern.startswith(need.resource))
            for pattern in self.resources
        )


def allowed_by(documents: Iterable[dict[str, Any]]) -> list[Allowed]:
    """What policies allow, an action at a time."""
    return [
        Allowed(action, tuple(_listed(statement["Resource"])))
        for document in documents
        for statement in _listed(document["Statement"])
        if statement["Effect"] == "Allow"
        for action in _listed(statement["Action"])
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


Params = dict[str, str]
Given = frozenset[str]
Needs = Callable[[Params, Given], Iterator[Need]]


def _object(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
        yield Need(action, f"arn:aws:s3:::{params['Bucket']}/{params['Key']}")

    return needs


def _copied(params: Params, given: Given) -> Iterator[Need]:
    yield from _object("s3:PutObject")(params, given)
    # boto3 is given a mapping, which is not noted; the source is in the same bucket.
    yield Need("s3:GetObject", f"arn:aws:s3:::{params['Bucket']}/source")


def _bucket(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
        yield Need(action, f"arn:aws:s3:::{params['Bucket']}")

    return needs


def _queue(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
    name = urlsplit(params["QueueUrl"]).path.rpartition("/")[2]
    yield Need("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")


def _bus(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
    yield Need("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{params['bus']}")


def _rule(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
        yield Need(action, f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{params['Name']}")

    return needs


def _secret(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
        # By name or by ARN, of which six random characters are the end.
        arn = params["SecretId"]
        if not arn.startswith("arn:"):
            arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{arn}-"
        yield Need(action, arn)

    return needs


def _anything(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
        yield Need(action, "*")

    return needs


def _training_job(action: str) -> Needs:
    def needs(params: Params, given: Given) -> Iterator[Need]:
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{params['TrainingJobName']}"
        yield Need(action, arn)
        if "Tags" in given:
            yield Need("sagemaker:AddTags", arn)
        if "RoleArn" in given:
            yield Need("iam:PassRole", params["RoleArn"])

    return needs


def _submitted(params: Params, given: Given) -> Iterator[Need]:
    yield Need("batch:SubmitJob", params["jobQueue"])
    yield Need("batch:SubmitJob", params["jobDefinition"])
    if "tags" in given:
        yield Need("batch:TagResource", f"arn:aws:batch:{REGION}:{ACCOUNT}:job/new")


def _terminated(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
    yield Need("batch:TerminateJob", f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{params['jobId']}")


def _invoked(params: Params, given: Given) -> Iterator[Need]:  # noqa: ARG001
    path = urlsplit(params["Url"]).path
    # The HTTP API itself is left out on LocalStack.
    api = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:left-out-HttpApi"
    yield Need("execute-api:Invoke", f"{api}/$default/{params['Method']}{path}")


_NEEDS: dict[tuple[str, str], Needs] = {
    ("batch", "DescribeJobs"): _anything("batch:DescribeJobs"),
    ("batch", "ListJobs"): _anything("batch:ListJobs"),
    ("batch", "SubmitJob"): _submitted,
    ("batch", "TerminateJob"): _terminated,
    ("events", "DisableRule"): _rule("events:DisableRule"),
    ("events", "EnableRule"): _rule("events:EnableRule"),
    ("events", "PutEvents"): _bus,
    ("execute-api", "Invoke"): _invoked,
    ("s3", "AbortMultipartUpload"): _object("s3:AbortMultipartUpload"),
    ("s3", "CompleteMultipartUpload"): _object("s3:PutObject"),
    ("s3", "CopyObject"): _copied,
    ("s3", "CreateMultipartUpload"): _object("s3:PutObject"),
    ("s3", "DeleteObject"): _object("s3:DeleteObject"),
    ("s3", "GetObject"): _object("s3:GetObject"),
    ("s3", "HeadObject"): _object("s3:GetObject"),
    ("s3", "ListObjectsV2"): _bucket("s3:ListBucket"),
    ("s3", "PutObject"): _object("s3:PutObject"),
    ("s3", "UploadPart"): _object("s3:PutObject"),
    ("s3", "UploadPartCopy"): _copied,
    ("sagemaker", "CreateTrainingJob"): _training_job("sagemaker:CreateTrainingJob"),
    ("sagemaker", "DescribeTrainingJob"): _training_job("sagemaker:DescribeTrainingJob"),
    ("sagemaker", "StopTrainingJob"): _training_job("sagemaker:StopTrainingJob"),
    ("secretsmanager", "DescribeSecret"): _secret("secretsmanager:DescribeSecret"),
    ("secretsmanager", "GetRandomPassword"): _anything("secretsmanager:GetRandomPassword"),
    ("secretsmanager", "GetSecretValue"): _secret("secretsmanager:GetSecretValue"),
    ("secretsmanager", "PutSecretValue"): _secret("secretsmanager:PutSecretValue"),
    ("secretsmanager", "UpdateSecretVersionStage"): _secret(
        "secretsmanager:UpdateSecretVersionStage"
    ),
    ("sqs", "SendMessage"): _queue,
}
