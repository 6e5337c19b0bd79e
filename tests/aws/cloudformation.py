"""Reads CloudFormation templates, and changes what is written in them in a way that stays valid."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Template = dict[str, Any]
StandIn = Callable[[str, str | None], Any]
"""What takes the place of a reference to a resource (logical id, attribute or None)."""

_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _short_form(loader: yaml.Loader, tag: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if tag == "Ref" or tag == "Condition":
        return {tag: value}
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_form)
# `2012-10-17` is a text to CloudFormation, not a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_template(path: Path) -> Template:
    """A template, with every short form (``!Ref``) in its long form."""
    template = yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    assert isinstance(template, dict)
    return template


def resources_of(template: Template, type_prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Logical id and definition of each resource whose type begins so."""
    for name, resource in template["Resources"].items():
        if resource["Type"].startswith(type_prefix):
            yield name, resource


def replace_references(value: Any, gone: frozenset[str], stand_in: StandIn) -> Any:
    """The value with each reference to a resource that is ``gone`` replaced by its stand-in.

    In the text of a ``Fn::Sub`` the stand-in is written out; it may have variables itself.
    """
    if isinstance(value, list):
        return [replace_references(one, gone, stand_in) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((function, argument),) = value.items()
        if function == "Ref" and argument in gone:
            return stand_in(argument, None)
        if function == "Fn::GetAtt" and argument[0] in gone:
            return stand_in(argument[0], argument[1])
        if function == "Fn::Sub":
            return {function: _substituted(argument, gone, stand_in)}
    return {name: replace_references(one, gone, stand_in) for name, one in value.items()}


def _substituted(argument: Any, gone: frozenset[str], stand_in: StandIn) -> Any:
    text, variables = argument if isinstance(argument, list) else (argument, {})
    variables = replace_references(variables, gone, stand_in)

    def written(match: re.Match[str]) -> str:
        name, _, attribute = match[1].partition(".")
        if name not in gone or match[1] in variables:
            return match[0]
        told = stand_in(name, attribute or None)
        return str(told["Fn::Sub"]) if isinstance(told, dict) else str(told)

    text = _VARIABLE.sub(written, text)
    return [text, variables] if variables else text
