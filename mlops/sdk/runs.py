"""Runs: submit, read, list, watch, logs, dismiss."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from mlops.api import Api, Item, NotFoundError
from mlops.items.extension import MLOPS, STAC_VERSION
from mlops.items.ids import collection_id
from mlops.items.kinds import Kind
from mlops.items.rels import Rel
from mlops.items.status import Status
from mlops.sdk.data import Data
from mlops.sdk.records import Run
from mlops.sdk.updates import LogPlace, RunUpdate, Watch, log_from
from mlops.sdk.workspaces import Workspaces


class Runs:
    """The training runs of a workspace."""

    def __init__(self, api: Api, workspaces: Workspaces, data: Data) -> None:
        self._api = api
        self._workspaces = workspaces
        self._data = data

    def submit(self, item: Item, *, workspace: str | None = None) -> Run:
        """Submit a run as a STAC Item; only its ``mlops:`` properties and links are needed."""
        request = {**item}
        request.setdefault("type", "Feature")
        request.setdefault("stac_version", STAC_VERSION)
        request.setdefault("stac_extensions", [MLOPS])
        request.setdefault("geometry", None)
        request.setdefault("links", [])
        request.setdefault("assets", {})
        properties = {**request.get("properties", {})}
        properties.setdefault("datetime", datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        request["properties"] = properties
        stored, _ = self._api.create_item(self._collection(workspace), request)
        return Run.of(stored)

    def train(
        self,
        *,
        model: str,
        recipe: str,
        data: Sequence[str],
        workspace: str | None = None,
        task: str | None = None,
        framework: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        objective: Mapping[str, str] | None = None,
        compute: Mapping[str, Any] | None = None,
        title: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Submit a run of a built-in recipe.

        ``data`` are datasets as ``name`` (the latest version), ``name:v2`` or ``name-v2``; ``task``
        and ``framework`` are the recipe's first where left out. Raises
        :class:`mlops.api.NotFoundError` when a dataset or the recipe is not there.
        """
        workspace = self._workspaces.resolve(workspace)
        versions = [self._data.get(name, workspace=workspace) for name in data]
        described = self._recipe(recipe)
        properties = {
            "title": title,
            "mlops:model": model,
            "mlops:recipe": recipe,
            "mlops:task": task or described["tasks"][0],
            "mlops:framework": framework or described["frameworks"][0],
            "mlops:hyperparameters": dict(hyperparameters or {}),
            "mlops:objective": dict(objective) if objective else None,
            "mlops:compute": dict(compute) if compute else None,
        }
        item: Item = {
            "properties": {name: value for name, value in properties.items() if value is not None},
            "links": [
                {
                    "rel": Rel.TRAINING_DATA,
                    "href": f"../../{version.collection}/items/{version.id}",
                    "type": "application/geo+json",
                    "title": version.title,
                }
                for version in versions
            ],
        }
        if run_id:
            item["id"] = run_id
        return self.submit(item, workspace=workspace)

    def get(self, run: str, *, workspace: str | None = None) -> Run:
        """A run as it stands now."""
        return Run.of(self._api.get_item(self._collection(workspace), run).item)

    def list(
        self,
        *,
        workspace: str | None = None,
        status: Status | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Runs, the newest first; ``limit`` at most."""
        conditions = [
            {"op": "=", "args": [{"property": name}, value]}
            for name, value in (("mlops:status", status), ("mlops:model", model))
            if value is not None
        ]
        body: dict[str, Any] = {
            "collections": [self._collection(workspace)],
            "sortby": [{"field": "properties.datetime", "direction": "desc"}],
        }
        if limit is not None:
            body["limit"] = min(limit, 100)
        if conditions:
            body |= {
                "filter-lang": "cql2-json",
                "filter": conditions[0]
                if len(conditions) == 1
                else {"op": "and", "args": conditions},
            }
        return [Run.of(item) for item in islice(self._api.search(**body), limit)]

    def watch(
        self,
        run: str,
        *,
        workspace: str | None = None,
        log: bool = False,
        interval: float = 0.5,
    ) -> Iterator[RunUpdate]:
        """Follow a run until it has ended; ``log`` adds the text of its log.

        All that happened before comes first. Stopping to iterate does nothing to the run.
        """
        collection = self._collection(workspace)
        return Watch(self._api, collection, run, log=log).updates(interval)

    def log(self, run: str, *, workspace: str | None = None) -> str:
        """A run's log as far as it has come."""
        collection = self._collection(workspace)
        return "".join(log_from(self._api, collection, run, LogPlace()))

    def dismiss(self, run: str, *, workspace: str | None = None) -> Run:
        """End a run; ConflictError when it has ended."""
        collection = self._collection(workspace)
        patch = {"properties": {"mlops:status": Status.DISMISSED}}
        return Run.of(self._api.merge_patch(collection, run, patch))

    def _recipe(self, name: str) -> dict[str, Any]:
        recipes = {entry["name"]: entry for entry in self._api.get_json("/recipes")["recipes"]}
        if name not in recipes:
            raise NotFoundError(404, f"There is no recipe {name}: there is {', '.join(recipes)}.")
        return dict(recipes[name])

    def _collection(self, workspace: str | None) -> str:
        return collection_id(self._workspaces.resolve(workspace), Kind.TRAINING_RUN)
