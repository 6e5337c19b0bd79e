"""Workspaces: create, list, read, and the one that is meant when none is named."""

import os
from collections.abc import Mapping

from mlops.api import Api
from mlops.sdk.records import Workspace

WORKSPACE_ENV = "MLOPS_WORKSPACE"


class WorkspaceChoiceError(Exception):
    """No workspace was named and there is not exactly one to choose."""


class Workspaces:
    """The workspaces of the API.

    ``default`` is the one meant when a call names none; else ``$MLOPS_WORKSPACE``, else the only
    one there is.
    """

    def __init__(
        self, api: Api, default: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._api = api
        self._default = default or environ.get(WORKSPACE_ENV)

    def create(
        self,
        workspace: str,
        *,
        title: str | None = None,
        description: str | None = None,
        visibility: str | None = None,
    ) -> Workspace:
        """Create a workspace with its three collections; ConflictError when it is there."""
        asked = {
            "id": workspace,
            "title": title,
            "description": description,
            "visibility": visibility,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        return Workspace.of(self._api.request("POST", "/workspaces", json=body).json())

    def list(self) -> list[Workspace]:
        """All workspaces, by id."""
        found = self._api.get_json("/workspaces")["workspaces"]
        return sorted((Workspace.of(document) for document in found), key=lambda w: w.id)

    def get(self, workspace: str) -> Workspace:
        """One workspace; NotFoundError when there is none."""
        return Workspace.of(self._api.get_json(f"/workspaces/{workspace}"))

    def resolve(self, workspace: str | None = None) -> str:
        """The id of the workspace that is meant; :class:`WorkspaceChoiceError` when unclear."""
        named = workspace or self._default
        if named:
            return named
        there = [entry.id for entry in self.list()]
        if len(there) == 1:
            return there[0]
        if not there:
            raise WorkspaceChoiceError(
                "There is no workspace yet: make one with `mlops workspace create NAME`."
            )
        raise WorkspaceChoiceError(
            f"There are several workspaces ({', '.join(there)}): name one with --workspace or "
            f"{WORKSPACE_ENV}."
        )
