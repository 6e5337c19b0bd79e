"""What `template.yaml` tells its functions and its parts, and what it lets them do."""

import importlib
import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from functions.services import Settings as FunctionSettings
from mlops.engines.cloud_settings import BatchSettings, SageMakerSettings
from stac_api.relay_outbox import Settings as RelaySettings
from stac_api.settings import DatabaseSettings
from stac_api.settings import Settings as ApiSettings
from tests.aws.cloudformation import Template
from tests.aws.transformed import (
    listed,
    of_type,
    parts,
    resolved,
    source,
    statements,
    transformed,
)

SETTINGS: dict[str, type[BaseModel]] = {
    "StacApi": ApiSettings,
    "LaunchRun": FunctionSettings,
    "TrackRun": FunctionSettings,
    "RegisterModel": FunctionSettings,
    "PublishResource": FunctionSettings,
    "Reconcile": FunctionSettings,
    "RelayOutbox": RelaySettings,
    "MigrateDatabase": DatabaseSettings,
}
FRAMEWORKS = ("Pytorch", "Tensorflow", "ScikitLearn", "Xgboost", "Lightgbm", "Jax")
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mlops/training@sha256:" + "0" * 64
EVERY_IMAGE = {f"{one}Image": IMAGE for one in FRAMEWORKS}
SMALL = {"Network": "none", "Batch": "false", "WebUi": "false", "DatabaseSecretArn": "arn:db"}
OWN_NETWORK = {"Network": "existing", "JobSubnetIds": "subnet-1,subnet-2"}
OWN_NETWORK |= {"JobSecurityGroupId": "sg-1", "SageMakerInNetwork": "true"}
# What every function has, though not every one reads it.
COMMON = {"MLOPS_STORAGE", "MLOPS_TOKEN_SECRET_ARN", "MLOPS_EVENT_BUS"}
# A function's variables may have 4 KB together; this much is left to who adds one.
ENVIRONMENT_BYTES = 3900

# Actions on `*`, because their service cannot name a resource for them.
UNNAMED = {
    "batch:DescribeJobs",
    "batch:ListJobs",
    "cloudwatch:PutMetricData",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


@pytest.fixture(scope="module")
def made() -> Template:
    return transformed()


def environment(template: Template, function: str, chosen: dict[str, str]) -> dict[str, str]:
    one = of_type(template, "AWS::Lambda::Function")[f"{function}Function"]
    variables = resolved(one["Environment"]["Variables"], template, chosen)
    assert isinstance(variables, dict)
    return variables


@pytest.mark.parametrize("chosen", [{}, SMALL, OWN_NETWORK], ids=["default", "small", "own"])
@pytest.mark.parametrize("function", sorted(SETTINGS))
def test_variables_are_settings(
    made: Template, function: str, chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable is a field, and the settings can be made of them."""
    settings = SETTINGS[function]
    variables = environment(made, function, chosen)
    own = {name for name in variables if name.startswith("MLOPS_")} - COMMON
    assert own <= {f"MLOPS_{name.upper()}" for name in settings.model_fields}
    # What parts of the template answer with, when they are asked.
    answers = {"MLOPS_DATABASE_PORT": "5432", "MLOPS_BATCH": batch_settings({})}
    answers["MLOPS_SAGEMAKER"] = sagemaker_settings(made, chosen)
    for name, value in variables.items():
        asked = value.startswith(("DatabaseStack.", "BatchStack.", "SageMakerStack."))
        monkeypatch.setenv(name, answers.get(name, value) if asked else value)
    made_of = settings()
    if isinstance(made_of, FunctionSettings) and function not in ("PublishResource",):
        assert made_of.sagemaker is not None
        assert (made_of.batch is None) == (chosen == SMALL)


def test_functions_are_told_the_same(made: Template) -> None:
    """A value that several functions get is written several times, and must not come apart."""
    functions = of_type(made, "AWS::Lambda::Function")
    copies: dict[str, dict[str, Any]] = {}
    for function, one in functions.items():
        for name, value in one["Environment"]["Variables"].items():
            copies.setdefault(name, {})[function] = value
    del copies["POWERTOOLS_SERVICE_NAME"]
    # Events link to what users see; the others come in by the door of the system.
    system = copies["MLOPS_API_URL"]
    seen_by_users = system.pop("RelayOutboxFunction")["Fn::Sub"]
    assert {one["Fn::Sub"] for one in system.values()} == {f"{seen_by_users}/system"}
    for name, values in copies.items():
        assert len({json.dumps(one) for one in values.values()}) == 1, name
    networks = [one["VpcConfig"] for one in functions.values() if "VpcConfig" in one]
    assert len(networks) == 3
    assert all(one == networks[0] for one in networks)


def test_every_function_says_who_it_is(made: Template) -> None:
    for name, one in of_type(made, "AWS::Lambda::Function").items():
        module = one["Handler"].split(".")[1]
        service = one["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
        assert service in (module, "stac_api"), name


def batch_settings(chosen: dict[str, str]) -> str:
    """What the Batch stack tells the functions."""
    template = parts()["batch.yaml"]
    given = {"Prefix": "mlops", "MaxRuntime": "86400", **dict.fromkeys(EVERY_IMAGE, ""), **chosen}
    output = template["Outputs"]["Settings"]["Value"]
    definition = parts()["job_definition.yaml"]["Outputs"]
    text = str(resolved(output, template, given))
    for name, framework in zip(FRAMEWORKS, frameworks(), strict=True):
        for attribute in ("MultiNodeDefinition", "Definition"):
            told = {"Prefix": "mlops", "Framework": framework}
            value = resolved(definition[attribute]["Value"], parts()["job_definition.yaml"], told)
            text = text.replace(f"{name}.Outputs.{attribute}", str(value))
    return text


def sagemaker_settings(template: Template, chosen: dict[str, str]) -> str:
    """What the SageMaker stack tells the functions."""
    stack = of_type(template, "AWS::CloudFormation::Stack")["SageMakerStack"]
    given = resolved(stack["Parameters"], template, chosen)
    part = parts()["sagemaker.yaml"]
    return str(resolved(part["Outputs"]["Settings"]["Value"], part, given))


def frameworks() -> list[str]:
    stacks = of_type(parts()["batch.yaml"], "AWS::CloudFormation::Stack")
    return [stacks[name]["Parameters"]["Framework"] for name in FRAMEWORKS]


def test_batch_settings() -> None:
    nothing = BatchSettings.model_validate_json(batch_settings({}))
    assert nothing.job_definitions == {}
    assert nothing.queues.gpu == "mlops-gpu"
    assert nothing.queues.gpu_spot == "mlops-gpu-spot"
    assert nothing.queues.cpu == "mlops-cpu"
    names = {
        one["JobQueueName"]["Fn::Sub"].replace("${Prefix}", "mlops")
        for one in of_type(parts()["batch.yaml"], "AWS::Batch::JobQueue").values()
    }
    assert names == {nothing.queues.gpu, nothing.queues.gpu_spot, nothing.queues.cpu}
    one = BatchSettings.model_validate_json(batch_settings({"PytorchImage": IMAGE}))
    assert one.job_definitions == {"pytorch": "mlops-pytorch"}
    assert one.multi_node_job_definitions == {"pytorch": "mlops-pytorch-nodes"}
    everything = BatchSettings.model_validate_json(batch_settings(EVERY_IMAGE))
    assert set(everything.job_definitions) == set(frameworks())


def test_sagemaker_settings(made: Template) -> None:
    told = sagemaker_settings(made, EVERY_IMAGE | OWN_NETWORK | {"KmsKeyArn": "arn:key"})
    settings = SageMakerSettings.model_validate_json(told)
    assert settings.role == "TrainingRole.Arn"
    assert set(settings.images) == set(frameworks())
    assert settings.subnets == ["subnet-1", "subnet-2"]
    assert settings.security_groups == ["sg-1"]
    assert settings.kms_key == "arn:key"
    assert settings.tags == {"mlops:deployment": "mlops"}
    alone = SageMakerSettings.model_validate_json(sagemaker_settings(made, SMALL))
    assert (alone.subnets, alone.security_groups, alone.kms_key) == ([], [], None)


def test_sagemaker_reaches_the_network_it_is_in(made: Template) -> None:
    part = parts()["sagemaker.yaml"]
    role = of_type(part, "AWS::IAM::Role")["TrainingRole"]
    stack = of_type(made, "AWS::CloudFormation::Stack")["SageMakerStack"]
    for chosen, able in ((OWN_NETWORK, True), ({}, False)):
        given = resolved(stack["Parameters"], made, chosen)
        (policy,) = resolved(role["Policies"], part, given)
        actions = [a for one in policy["PolicyDocument"]["Statement"] for a in one["Action"]]
        assert ("ec2:CreateNetworkInterface" in actions) is able


def test_variables_fit(made: Template) -> None:
    """With an image by digest for every framework and a stack with a long name."""
    arn = "arn:aws:service:ap-southeast-2:123456789012:" + "x" * 80
    chosen = EVERY_IMAGE | OWN_NETWORK | {"KmsKeyArn": arn}
    answers = {
        "MLOPS_BATCH": batch_settings(EVERY_IMAGE),
        "MLOPS_SAGEMAKER": sagemaker_settings(made, chosen),
    }
    for function in SETTINGS:
        variables = environment(made, function, chosen)
        variables |= {name: text for name, text in answers.items() if name in variables}
        variables = {n: re.sub(r"\b\w+(Role|Secret|Stack)\b", arn, v) for n, v in variables.items()}
        size = len(json.dumps(variables, separators=(",", ":")))
        assert size < ENVIRONMENT_BYTES, (function, size)


def test_no_right_is_wider_than_it_must_be(made: Template) -> None:
    seen = set()
    for template in (made, *parts().values()):
        for role, statement in statements(template):
            assert statement["Effect"] == "Allow"
            actions = listed(statement["Action"])
            assert not [one for one in actions if "*" in one], role
            if "*" in listed(statement["Resource"]):
                assert set(actions) <= UNNAMED, role
                seen |= set(actions)
    assert seen == UNNAMED


def test_every_role_is_ours_alone() -> None:
    """AWS's own policies are made for everybody; one is left, of the machines of Batch."""
    own = {"FunctionBasicsPolicy", "CallApiPolicy", "OpenDatabasePolicy", "JobPolicy"}
    for name, role in of_type(source(), "AWS::IAM::Role").items():
        assert {one["Ref"] for one in role.get("ManagedPolicyArns", [])} <= own, name
    training = of_type(parts()["sagemaker.yaml"], "AWS::IAM::Role")["TrainingRole"]
    assert training["ManagedPolicyArns"] == [{"Ref": "JobPolicyArn"}]
    machines = of_type(parts()["batch.yaml"], "AWS::IAM::Role")["MachineRole"]["ManagedPolicyArns"]
    assert len(machines) == 1


def test_only_what_launches_may_hand_the_role_over(made: Template) -> None:
    able = {role for role, one in statements(made) if "iam:PassRole" in listed(one["Action"])}
    assert able == {"LaunchRunRole", "TrackRunRole"}


def test_parts_get_their_parameters(made: Template) -> None:
    everywhere = {"template.yaml": made, **parts()}
    found = set()
    for template in everywhere.values():
        for stack in of_type(template, "AWS::CloudFormation::Stack").values():
            part = stack["TemplateURL"].rpartition("/")[2]
            found.add(part)
            assert set(stack["Parameters"]) == set(parts()[part]["Parameters"]), part
    assert found == set(parts())


def outputs_used(value: Any) -> set[tuple[str, str]]:
    if isinstance(value, list):
        return {one for part in value for one in outputs_used(part)}
    if not isinstance(value, dict):
        return set()
    if "Fn::GetAtt" in value and value["Fn::GetAtt"][1].startswith("Outputs."):
        stack, attribute = value["Fn::GetAtt"]
        return {(stack, attribute.removeprefix("Outputs."))}
    return {one for part in value.values() for one in outputs_used(part)}


def test_parts_answer_what_is_asked(made: Template) -> None:
    for template in (made, *parts().values()):
        stacks = of_type(template, "AWS::CloudFormation::Stack")
        for stack, output in outputs_used(template):
            part = stacks[stack]["TemplateURL"].rpartition("/")[2]
            assert output in parts()[part]["Outputs"], (stack, output)


def test_alarms(made: Template) -> None:
    told = made["Resources"]["MonitoringStack"]["Properties"]["Parameters"]
    alarms = of_type(parts()["monitoring.yaml"], "AWS::CloudWatch::Alarm")
    watched = {
        one["MetricName"] + "/" + name
        for one in alarms.values()
        for name in [d["Value"]["Ref"] for d in one["Dimensions"]]
    }
    for queue in of_type(made, "AWS::SQS::Queue"):
        if queue.endswith("DeadLetters"):
            assert told[queue] == {"Fn::GetAtt": [queue, "QueueName"]}
            assert f"ApproximateNumberOfMessagesVisible/{queue}" in watched
    for function in of_type(made, "AWS::Lambda::Function"):
        # CloudFormation itself tells when the migration fails.
        if function != "MigrateDatabaseFunction":
            assert told[function] == {"Ref": function}
            assert f"Errors/{function}" in watched
    relay = importlib.import_module("stac_api.relay_outbox")
    age = alarms["OutboxAgeAlarm"]
    assert (age["Namespace"], age["MetricName"]) == ("mlops", relay._METRIC)
    for name, one in alarms.items():
        assert one["AlarmActions"] == [{"Ref": "Alarms"}], name


def test_the_dashboard_is_json() -> None:
    template = parts()["monitoring.yaml"]
    body = of_type(template, "AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]
    widgets = json.loads(resolved(body, template, {}))["widgets"]
    assert len(widgets) == 9
    places = {(one["x"], one["y"]) for one in widgets}
    assert len(places) == len(widgets)
