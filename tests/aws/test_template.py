"""What `template.yaml` deploys, after SAM's transform: doors, rules, queues, buckets."""

import tomllib
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest

from mlops.events import (
    BATCH_SOURCE,
    ENGINE_SOURCE,
    JOB_STATE_CHANGED,
    RECORD_SOURCE,
    SAGEMAKER_SOURCE,
    BusEvent,
    routes,
)
from mlops.storage import keys
from tests.aws.cloudformation import Template
from tests.aws.transformed import (
    PARTS,
    VALUES,
    listed,
    of_type,
    parts,
    resolved,
    source,
    transformed,
)

QUEUED = {
    "LaunchRun": 120,
    "TrackRun": 120,
    "RegisterModel": 600,
    "PublishResource": 60,
    "Reconcile": 300,
    "RelayOutbox": 120,
}
UNQUEUED = {"StacApi", "MigrateDatabase", "RotateTokenSecret"}
NOTHING: dict[str, str] = {}


@pytest.fixture(scope="module")
def made() -> Template:
    return transformed()


def functions(template: Template) -> dict[str, Any]:
    return {
        name.removesuffix("Function"): one
        for name, one in of_type(template, "AWS::Lambda::Function").items()
    }


def test_the_functions(made: Template) -> None:
    found = functions(made)
    assert set(found) == {*QUEUED, *UNQUEUED}
    packaging = tomllib.loads((PARTS / "packages" / "packages.toml").read_text())
    assert {f"{name}Function" for name in found} == set(packaging["functions"])
    architectures = source()["Parameters"]["Architecture"]["AllowedValues"]
    assert all((PARTS / "packages" / one / "Makefile").is_file() for one in architectures)
    for name, one in found.items():
        module, _, attribute = one["Handler"].rpartition(".")
        assert callable(getattr(import_module(module), attribute)), name
        assert one["Runtime"] == f"python{packaging['python']}"
        assert one["Architectures"] == [{"Ref": "Architecture"}]
        assert one["TracingConfig"] == {"Mode": "Active"}
        assert one["LoggingConfig"]["LogGroup"] == {"Ref": "FunctionLogs"}
        assert one["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
        assert name in UNQUEUED or one["Timeout"] == QUEUED[name]


def test_each_queue_feeds_its_function(made: Template) -> None:
    mappings = of_type(made, "AWS::Lambda::EventSourceMapping")
    assert set(mappings) == {f"{name}FunctionQueue" for name in QUEUED}
    for name in QUEUED:
        one = mappings[f"{name}FunctionQueue"]
        # Each property: one that is misspelt in the source is not here.
        assert one.pop("BatchSize") >= 1
        assert one.pop("ScalingConfig")["MaximumConcurrency"] >= 2
        assert one == {
            "EventSourceArn": {"Fn::GetAtt": [f"{name}Queue", "Arn"]},
            "FunctionName": {"Ref": f"{name}Function"},
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        }


def test_each_queue_has_its_dead_letters(made: Template) -> None:
    queues = of_type(made, "AWS::SQS::Queue")
    assert set(queues) == {f"{name}{kind}" for name in QUEUED for kind in ("Queue", "DeadLetters")}
    for name, timeout in QUEUED.items():
        queue, dead = queues[f"{name}Queue"], queues[f"{name}DeadLetters"]
        # Lambda asks for six times the function's timeout.
        assert queue["VisibilityTimeout"] == 6 * timeout
        target = queue["RedrivePolicy"]["deadLetterTargetArn"]
        assert target == {"Fn::GetAtt": [f"{name}DeadLetters", "Arn"]}
        # A dead letter keeps its age: its queue may not forget it before the other does.
        assert dead["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"]
        assert queue["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


def test_rules_may_reach_their_queues(made: Template) -> None:
    allowed: set[tuple[str, str]] = set()
    for policy in of_type(made, "AWS::SQS::QueuePolicy").values():
        (queue,) = policy["Queues"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Action"] == "sqs:SendMessage"
        assert statement["Resource"] == {"Fn::GetAtt": [queue["Ref"], "Arn"]}
        sources = listed(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        allowed |= {(one["Fn::GetAtt"][0], queue["Ref"]) for one in sources}
    wanted = set()
    for name, rule in of_type(made, "AWS::Events::Rule").items():
        for target in rule["Targets"]:
            wanted.add((name, target["Arn"]["Fn::GetAtt"][0]))
            wanted.add((name, target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0]))
    assert allowed == wanted


def matches(pattern: Any, event: Any) -> bool:
    """Whether an event matches a pattern of EventBridge; of what our rules use."""
    if isinstance(pattern, dict):
        return all(matches(one, event.get(name)) for name, one in pattern.items())
    return any(
        event not in listed(one["anything-but"]) if isinstance(one, dict) else event == one
        for one in pattern
    )


def targets(template: Template, on_bus: bool, event: dict[str, Any]) -> set[str]:
    found = set()
    for rule in of_type(template, "AWS::Events::Rule").values():
        pattern = resolved(rule.get("EventPattern"), template, NOTHING)
        if ("EventBusName" in rule) is on_bus and pattern and matches(pattern, event):
            found |= {one["Arn"]["Fn::GetAtt"][0] for one in rule["Targets"]}
    return found


def queue_of(function: str) -> str:
    return "".join(part.capitalize() for part in function.split("_")) + "Queue"


RECORDED = [
    *("run.accepted", "run.running", "run.successful", "run.failed", "run.dismissed"),
    *("model.created", "model.published", "model.alias-moved"),
    *("training-data.created", "training-data.published"),
    *("item.created", "item.updated", "item.deleted"),
]
OWN = [
    *((RECORD_SOURCE, one, {}) for one in RECORDED),
    *((ENGINE_SOURCE, JOB_STATE_CHANGED, {"phase": one}) for one in ("succeeded", "failed")),
    *((ENGINE_SOURCE, JOB_STATE_CHANGED, {"phase": one}) for one in ("stopped", "lost")),
]


@pytest.mark.parametrize(("origin", "detail_type", "detail"), OWN)
def test_rules_of_our_bus_are_the_routes(
    made: Template, origin: str, detail_type: str, detail: dict[str, str]
) -> None:
    event = BusEvent(
        id="1", source=origin, detail_type=detail_type, time=datetime.now(UTC), detail=detail
    )
    told = {"source": origin, "detail-type": detail_type, "detail": detail}
    wanted = {queue_of(function) for function in routes(event)}
    assert targets(made, True, told) == wanted
    assert targets(made, False, told) == set()


def aws_event(engine: str, status: str, whose: str) -> dict[str, Any]:
    if engine == SAGEMAKER_SOURCE:
        kind = "SageMaker Training Job State Change"
        detail = {"TrainingJobStatus": status, "RoleArn": whose}
    else:
        kind = "Batch Job State Change"
        detail = {"status": status, "jobQueue": whose}
    return {"source": engine, "detail-type": kind, "detail": detail}


def batch_queue(name: str) -> str:
    return f"arn:aws:batch:{VALUES['AWS::Region']}:{VALUES['AWS::AccountId']}:job-queue/{name}"


AWS_EVENTS = [
    (SAGEMAKER_SOURCE, "SageMakerStack.Outputs.Role", "arn:aws:iam::123456789012:role/somebody"),
    (BATCH_SOURCE, batch_queue("mlops-gpu-spot"), batch_queue("mlops-dev-gpu-spot")),
    (BATCH_SOURCE, batch_queue("mlops-gpu"), batch_queue("gpu")),
    (BATCH_SOURCE, batch_queue("mlops-cpu"), batch_queue("mlops-cpu-2")),
]


@pytest.mark.parametrize(("engine", "ours", "foreign"), AWS_EVENTS)
def test_rules_of_the_default_bus_take_our_jobs_only(
    made: Template, engine: str, ours: str, foreign: str
) -> None:
    ends = {
        SAGEMAKER_SOURCE: {
            "Completed": "RegisterModelQueue",
            "Failed": "TrackRunQueue",
            "Stopped": "TrackRunQueue",
        },
        BATCH_SOURCE: {"SUCCEEDED": "RegisterModelQueue", "FAILED": "TrackRunQueue"},
    }[engine]
    for status, queue in ends.items():
        assert targets(made, False, aws_event(engine, status, ours)) == {queue}
        assert targets(made, False, aws_event(engine, status, foreign)) == set()
    for status in ("InProgress", "RUNNABLE", "RUNNING"):
        assert targets(made, False, aws_event(engine, status, ours)) == set()


def test_the_schedule_sleeps_until_it_is_armed(made: Template) -> None:
    rules = of_type(made, "AWS::Events::Rule")
    schedule, sweep = rules["ReconcileSchedule"], rules["DailySweep"]
    assert schedule["State"] == "DISABLED"
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert sweep["State"] == "ENABLED"
    for rule in (schedule, sweep):
        queues = {one["Arn"]["Fn::GetAtt"][0] for one in rule["Targets"]}
        assert queues == {"ReconcileQueue", "RelayOutboxQueue"}


def test_the_doors_of_the_api(made: Template) -> None:
    api = made["Resources"]["HttpApi"]["Properties"]["Body"]
    jwt = api["components"]["securitySchemes"]["Jwt"]["x-amazon-apigateway-authorizer"]
    assert jwt["type"] == "jwt"
    assert jwt["jwtConfiguration"] == {
        "issuer": {"Ref": "JwtIssuer"},
        "audience": {"Ref": "JwtAudience"},
    }
    doors = {
        path: [(method, list(one.get("security", [{"NONE": []}])[0])) for method, one in by.items()]
        for path, by in api["paths"].items()
    }
    assert doors == {
        "$default": [("x-amazon-apigateway-any-method", ["Jwt"])],
        "/system/{proxy+}": [("x-amazon-apigateway-any-method", ["AWS_IAM"])],
        "/healthz": [("get", ["NONE"])],
        "/healthz/{proxy+}": [("get", ["NONE"])],
    }
    assert api["paths"]["$default"]["x-amazon-apigateway-any-method"]["isDefaultRoute"] is True
    # PATCH and If-Match from a browser.
    assert "PATCH" in api["x-amazon-apigateway-cors"]["allowMethods"]
    assert "If-Match" in api["x-amazon-apigateway-cors"]["allowHeaders"]


def test_the_api_runs_the_version_that_was_published(made: Template) -> None:
    """Its environment, too, is a part of the version."""
    api = made["Resources"]["HttpApi"]["Properties"]["Body"]
    uri = api["paths"]["$default"]["x-amazon-apigateway-any-method"]
    assert "StacApiFunctionAliaslive" in str(uri["x-amazon-apigateway-integration"])
    (version,) = (n for n in made["Resources"] if n.startswith("StacApiFunctionVersion"))
    alias = made["Resources"]["StacApiFunctionAliaslive"]["Properties"]
    assert alias["FunctionVersion"] == {"Fn::GetAtt": [version, "Version"]}
    assert source()["Resources"]["StacApiFunction"]["Properties"]["AutoPublishAliasAllProperties"]


def test_the_database_is_brought_forward_first(made: Template) -> None:
    """By each new package, and before the code that needs it."""
    migration = made["Resources"]["DatabaseVersion"]["Properties"]
    assert "MigrateDatabaseFunctionVersion" in str(migration["Package"])
    for name in ("StacApiFunction", "RelayOutboxFunction"):
        assert "DatabaseVersion" in listed(made["Resources"][name]["DependsOn"])


def test_buckets(made: Template) -> None:
    everywhere = {"template.yaml": made, **parts()}
    found = 0
    for template in everywhere.values():
        policies = of_type(template, "AWS::S3::BucketPolicy").values()
        for name, bucket in of_type(template, "AWS::S3::Bucket").items():
            found += 1
            assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}, name
            assert bucket["BucketEncryption"], name
            assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}, name
            (policy,) = (one for one in policies if one["Bucket"] == {"Ref": name})
            deny = policy["PolicyDocument"]["Statement"][0]
            assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
            assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            assert len(deny["Resource"]) == 2
    assert found == 3


def test_what_is_temporary_expires(made: Template) -> None:
    bucket = of_type(made, "AWS::S3::Bucket")["StorageBucket"]
    rules = bucket["LifecycleConfiguration"]["Rules"]
    by_prefix = {one.get("Prefix"): one for one in rules if "ExpirationInDays" in one}
    assert set(by_prefix) == {keys.JOBS, keys.CHECKPOINTS}
    longest_job = source()["Parameters"]["MaxTrainingSeconds"]["MaxValue"] / 86400
    assert by_prefix[keys.JOBS]["ExpirationInDays"] > longest_job


def test_data_outlives_the_stack(made: Template) -> None:
    kept = {"RetainExceptOnCreate", "Retain", "Snapshot"}
    cluster = parts()["database.yaml"]["Resources"]["Cluster"]
    for one in (made["Resources"]["StorageBucket"], cluster):
        assert one["DeletionPolicy"] in kept
        assert one["UpdateReplacePolicy"] in kept
