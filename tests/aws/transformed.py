"""The template as CloudFormation sees it: after SAM's transform.

The transform runs under SAM's own environment, `.venv-cloud`, whose packages are not the product's.
A misspelt property of a SAM event, say, is refused by nothing and does nothing: only what the
transform makes of a template tells what is deployed.
"""

import copy
import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.aws.cloudformation import Template, read_template

ROOT = Path(__file__).resolve().parents[2]
PARTS = ROOT / "infra" / "aws"
VALUES = {"AWS::Region": "eu-central-1", "AWS::Partition": "aws", "AWS::AccountId": "123456789012"}
VALUES |= {"AWS::StackName": "mlops", "AWS::URLSuffix": "amazonaws.com"}
# SAM wants a session for its region, and asks AWS for nothing.
_TRANSFORM = """
import json, sys
import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

session = boto3.Session(region_name=sys.argv[1])
translator = Translator({}, Parser(), boto_session=session)
json.dump(translator.translate(json.load(sys.stdin), {}), sys.stdout)
"""
_CODE = {"Bucket": "packages", "Key": "code.zip"}


@cache
def source() -> Template:
    """`template.yaml` as it is written; read once, so leave it as it is."""
    return read_template(ROOT / "template.yaml")


@cache
def parts() -> dict[str, Template]:
    """Every template of `infra/aws`, by file name; read once, so leave them as they are."""
    return {path.name: read_template(path) for path in sorted(PARTS.glob("*.yaml"))}


def transformed() -> Template:
    """`template.yaml` after the transform, with its functions' code somewhere."""
    template = copy.deepcopy(source())
    template["Globals"]["Function"]["CodeUri"] = _CODE
    transform = subprocess.run(
        [str(ROOT / ".venv-cloud" / "bin" / "python"), "-c", _TRANSFORM, VALUES["AWS::Region"]],
        input=json.dumps(template),
        capture_output=True,
        text=True,
        check=False,
    )
    assert transform.returncode == 0, transform.stderr
    done: Template = json.loads(transform.stdout)
    return done


def of_type(template: Template, kind: str) -> dict[str, Any]:
    """The properties of the resources of a type, by logical id."""
    return {
        name: one.get("Properties", {})
        for name, one in template["Resources"].items()
        if one["Type"] == kind
    }


def resolved(value: Any, template: Template, chosen: Mapping[str, Any]) -> Any:
    """``value`` with its functions evaluated.

    ``chosen`` are parameters; others have their default. A reference to a resource becomes
    ``{logical id}`` or ``{logical id}.{attribute}``.
    """
    if isinstance(value, list):
        return [
            one
            for one in (resolved(one, template, chosen) for one in value)
            if one != {"Ref": "AWS::NoValue"}
        ]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, argument),) = value.items()
        if name == "Ref" and argument != "AWS::NoValue":
            return _named(argument, template, chosen)
        if name == "Fn::GetAtt":
            return ".".join(argument)
        if name == "Condition" and isinstance(argument, str):
            return resolved(template["Conditions"][argument], template, chosen)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](argument, template, chosen)
    pairs = {name: resolved(one, template, chosen) for name, one in value.items()}
    return {name: one for name, one in pairs.items() if one != {"Ref": "AWS::NoValue"}}


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every IAM policy, with the logical id of the role or policy; both branches
    of a condition."""
    for name, one in template["Resources"].items():
        properties = one.get("Properties", {})
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        if one["Type"] == "AWS::IAM::ManagedPolicy":
            documents.append(properties["PolicyDocument"])
        for document in documents:
            for statement in document["Statement"]:
                found = statement["Fn::If"][1] if "Fn::If" in statement else statement
                yield name, found


def listed(value: Any) -> list[Any]:
    """What may be one or several, as several."""
    return value if isinstance(value, list) else [value]


def _named(name: str, template: Template, chosen: Mapping[str, Any]) -> Any:
    if name in VALUES:
        return VALUES[name]
    parameter = template.get("Parameters", {}).get(name)
    if parameter is None:
        return name
    value = chosen.get(name, parameter.get("Default", f"<{name}>"))
    is_list = parameter["Type"] == "CommaDelimitedList" or parameter["Type"].startswith("List<")
    return value.split(",") if is_list and isinstance(value, str) else value


def _sub(argument: Any, template: Template, chosen: Mapping[str, Any]) -> str:
    text, given = argument if isinstance(argument, list) else (argument, {})
    own = {name: resolved(one, template, chosen) for name, one in given.items()}
    out = []
    for position, piece in enumerate(text.split("${")):
        if position == 0:
            out.append(piece)
            continue
        name, _, rest = piece.partition("}")
        out.append(str(own[name] if name in own else _named(name, template, chosen)) + rest)
    return "".join(out)


def _if(argument: Any, template: Template, chosen: Mapping[str, Any]) -> Any:
    condition, yes, no = argument
    holds = resolved(template["Conditions"][condition], template, chosen)
    branch = yes if holds else no
    return branch if branch == {"Ref": "AWS::NoValue"} else resolved(branch, template, chosen)


def _all(argument: Any, template: Template, chosen: Mapping[str, Any]) -> list[Any]:
    values = resolved(argument, template, chosen)
    assert isinstance(values, list)
    return values


_FUNCTIONS: dict[str, Any] = {
    "Fn::Sub": _sub,
    "Fn::If": _if,
    "Fn::Equals": lambda a, t, c: len({str(one) for one in _all(a, t, c)}) == 1,
    "Fn::Not": lambda a, t, c: not _all(a, t, c)[0],
    "Fn::And": lambda a, t, c: all(_all(a, t, c)),
    "Fn::Or": lambda a, t, c: any(_all(a, t, c)),
    "Fn::Join": lambda a, t, c: a[0].join(str(one) for one in _all(a[1], t, c)),
    "Fn::Split": lambda a, t, c: str(resolved(a[1], t, c)).split(a[0]),
    "Fn::Select": lambda a, t, c: _all(a[1], t, c)[int(a[0])],
}
