"""Ids of workspaces, collections, items and versions: their rule, and how they are made."""

import re
import secrets
from datetime import UTC, datetime

from mlops.items.kinds import Kind

ID_RULE = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ID = re.compile(rf"\A{ID_RULE}\Z")
WORKSPACE_RULE = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_WORKSPACE = re.compile(rf"\A{WORKSPACE_RULE}\Z")


class InvalidIdError(ValueError):
    """An id that breaks the rule; the message names the id and the rule."""


def check_id(value: object, what: str = "id") -> str:
    """Return ``value`` when it is a valid id, else raise :class:`InvalidIdError`."""
    if not isinstance(value, str) or not _ID.match(value):
        shown = repr(value)[:80]
        raise InvalidIdError(f"{what} {shown} is not valid: it must match {ID_RULE}")
    return value


def check_workspace_id(value: object) -> str:
    """Return ``value`` when it is a valid workspace id (a slug), else raise."""
    if not isinstance(value, str) or not _WORKSPACE.match(value):
        shown = repr(value)[:80]
        raise InvalidIdError(f"workspace id {shown} is not valid: it must match {WORKSPACE_RULE}")
    return value


def collection_id(workspace: str, kind: Kind) -> str:
    """The id of the collection that holds a workspace's items of one kind."""
    return f"{workspace}-{kind.collection_suffix}"


def version_id(name: str, version: int) -> str:
    """The id of version ``version`` of a dataset or model."""
    return f"{name}-v{version}"


def new_run_id(model: str) -> str:
    """A fresh id for a run whose client gave none: model, UTC time, random."""
    stamp = datetime.now(UTC).strftime("%Y%m%dt%H%M%S")
    return f"{model[:96]}-{stamp}-{secrets.token_hex(3)}"
