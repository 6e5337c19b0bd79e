"""The template as LocalStack can deploy it: `template.yaml` itself, changed as listed here.

LocalStack's open part has no API Gateway v2, Aurora, Batch, SageMaker and CloudFront, and runs
nothing in a network of its own. Most of that is left out by the template's own parameters
(`PARAMETERS`): no network, a database that exists, no Batch, no web UI. `for_localstack` then

1. leaves out the resources of types that LocalStack does not have (`LACKING`) and the `HttpApi`
   events of functions, and writes a stand-in (`left-out-{logical id}`) where another resource
   refers to one of them;
2. gives functions the code that was built for this machine, from its folder (`hot-reload` is
   LocalStack's name for that) instead of from a zip file in a bucket;
3. sets in the functions' environments where the API is (`MLOPS_API_URL`, what API Gateway would
   be), where SageMaker and Batch are (`AWS_ENDPOINT_URL_...`, the scripted fakes), and Batch's
   settings, which the part of the template that makes Batch would give;
4. shortens the time until a failed message is delivered again, and after how many times it is a
   dead letter (`RETRY_SECONDS`, `RETRIES`), so that tests need not wait for hours;
5. puts the templates of nested stacks where LocalStack finds them, as `sam package` does;
   a number there that is a parameter is written out, because LocalStack hands it on as text, and
   a text is empty where nothing is given, because LocalStack loses an empty one on its way there;
6. writes a text for `Ref: {function}.Version`, which LocalStack looks for before SAM has made it.

All else is deployed as it is written: the bus, its archive, rules, queues and their policies,
event source mappings, functions with their roles and environments, secrets, buckets, schedules,
alarms. Two things LocalStack makes and does not run: custom resources, so `custom_resource` asks
the function that migrates the database; schedules that are enabled later, so `scheduler` runs them.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws.cloudformation import Template, replace_references, resources_of

LACKING = ("AWS::Serverless::HttpApi", "AWS::ApiGatewayV2::")
"""Types of resources that LocalStack's open part cannot make, and no parameter leaves out."""
PARAMETERS = {
    "Network": "none",
    "Batch": "false",
    "WebUi": "false",
    # With an address there is a subscription, too.
    "AlarmEmail": "ops@example.com",
}
RETRY_SECONDS = 6
RETRIES = 3
_THRESHOLD = 300


@dataclass(frozen=True)
class Surroundings:
    """What the stack finds beside it. ``packages`` are folders by logical id of the function."""

    packages: Mapping[str, Path]
    api_url: str
    """Root of the HTTP API, as users call it."""
    sagemaker_url: str
    batch_url: str
    batch_settings: str
    """JSON of :class:`~mlops.engines.cloud_settings.BatchSettings`."""
    nested: Callable[[str], str]
    """Makes the URL of a nested template of its path in the repository."""


def for_localstack(template: Template, surroundings: Surroundings) -> Template:
    """The template as LocalStack can deploy it; the given one is left as it is."""
    changed = copy.deepcopy(template)
    _leave_out(changed)
    for name, function in resources_of(changed, "AWS::Serverless::Function"):
        _place(name, function["Properties"], surroundings)
    for unsupported in ("CodeUri", "VpcConfig", "Architectures"):
        changed["Globals"]["Function"].pop(unsupported, None)
    for _, queue in resources_of(changed, "AWS::SQS::Queue"):
        _shorten(queue)
    for _, nested in resources_of(changed, "AWS::CloudFormation::Stack"):
        properties = nested["Properties"]
        properties["TemplateURL"] = surroundings.nested(properties["TemplateURL"])
    return changed


def nested_for_localstack(template: Template) -> Template:
    """The template of a nested stack as LocalStack can deploy it."""
    changed = copy.deepcopy(template)
    for _, alarm in resources_of(changed, "AWS::CloudWatch::Alarm"):
        if isinstance(alarm["Properties"]["Threshold"], dict):
            alarm["Properties"]["Threshold"] = _THRESHOLD
    for parameter in changed.get("Parameters", {}).values():
        if parameter["Type"] == "String":
            parameter.setdefault("Default", "")
    return changed


def _leave_out(template: Template) -> None:
    resources = template["Resources"]
    lacking = [name for name, one in resources.items() if one["Type"].startswith(LACKING)]
    versions = [f"{name}.Version" for name, _ in resources_of(template, "AWS::Serverless::")]
    gone = frozenset([*lacking, *versions])
    for name in lacking:
        del resources[name]

    def stand_in(name: str, attribute: str | None) -> str:
        return f"left-out-{name}" + (f"-{attribute}" if attribute else "")

    for part in ("Resources", "Outputs", "Globals"):
        template[part] = replace_references(template[part], gone, stand_in)


def _place(name: str, function: dict[str, Any], surroundings: Surroundings) -> None:
    for unsupported in ("VpcConfig", "Architectures", "SnapStart"):
        function.pop(unsupported, None)
    folder = surroundings.packages[name]
    function["CodeUri"] = {"Bucket": "hot-reload", "Key": str(folder)}
    events = function.get("Events", {})
    function["Events"] = {n: one for n, one in events.items() if one["Type"] != "HttpApi"}
    variables = function["Environment"]["Variables"]
    if "MLOPS_API_URL" in variables:
        path = "/system" if variables.get("MLOPS_API_SIGNED") == "true" else ""
        variables["MLOPS_API_URL"] = surroundings.api_url + path
    if "MLOPS_BATCH" in variables:
        variables["MLOPS_BATCH"] = surroundings.batch_settings
    if "MLOPS_ENGINES" in variables:
        variables["MLOPS_ENGINES"] = "sagemaker,batch"
    variables["AWS_ENDPOINT_URL_SAGEMAKER"] = surroundings.sagemaker_url
    variables["AWS_ENDPOINT_URL_BATCH"] = surroundings.batch_url


def _shorten(queue: dict[str, Any]) -> None:
    properties = queue.get("Properties", {})
    if "RedrivePolicy" in properties:
        properties["VisibilityTimeout"] = RETRY_SECONDS
        properties["RedrivePolicy"]["maxReceiveCount"] = RETRIES
