"""What the SDK returns: Items of each kind with their properties as typed attributes."""

from dataclasses import dataclass, field
from typing import Any

from mlops.api import Item
from mlops.items.rels import Rel
from mlops.items.status import Status


@dataclass(frozen=True)
class Workspace:
    """A workspace. ``collections`` are collection ids by kind."""

    id: str
    title: str
    description: str
    visibility: str
    created: str | None
    collections: dict[str, str]

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Workspace":
        """Read what the API says of a workspace."""
        return cls(
            id=document["id"],
            title=document.get("title") or document["id"],
            description=document.get("description") or "",
            visibility=document.get("visibility") or "private",
            created=document.get("created"),
            collections=document.get("collections") or {},
        )


@dataclass(frozen=True)
class Record:
    """An Item of the record; ``item`` is all of it."""

    item: Item = field(repr=False)
    id: str
    collection: str
    title: str

    @classmethod
    def _parts(cls, item: Item) -> dict[str, Any]:
        title = item["properties"].get("title") or item["id"]
        return {
            "item": item,
            "id": item["id"],
            "collection": item.get("collection", ""),
            "title": title,
        }

    @property
    def href(self) -> str | None:
        """The Item's own URL."""
        return self.link(Rel.SELF)

    def link(self, rel: str) -> str | None:
        """The href of the first link of a relation type."""
        return next(iter(self.links(rel)), None)

    def links(self, rel: str) -> list[str]:
        """The hrefs of all links of a relation type."""
        return [link["href"] for link in self.item.get("links", []) if link["rel"] == rel]

    def asset_href(self, key: str) -> str | None:
        """The href of an asset."""
        asset = self.item.get("assets", {}).get(key)
        return asset["href"] if asset else None


@dataclass(frozen=True)
class DatasetVersion(Record):
    """A version of a dataset. ``size`` is bytes; ``splits`` says samples and bytes of each."""

    name: str
    version: int
    samples: int
    size: int
    splits: dict[str, dict[str, int]]
    classes: list[dict[str, Any]]
    digest: str

    @classmethod
    def of(cls, item: Item) -> "DatasetVersion":
        """Read a dataset's Item."""
        properties = item["properties"]
        return cls(
            **cls._parts(item),
            name=properties["mlops:dataset"],
            version=int(properties["version"]),
            samples=properties.get("mlops:samples", 0),
            size=properties.get("mlops:size", 0),
            splits=properties.get("mlops:splits", {}),
            classes=properties.get("classification:classes", []),
            digest=properties.get("mlops:manifest_digest", ""),
        )


@dataclass(frozen=True)
class Run(Record):
    """A training run. ``metrics`` are the last values; ``progress`` is 0..1."""

    model: str
    status: Status
    progress: float
    metrics: dict[str, float]
    objective: str | None
    objective_value: float | None
    created: str | None
    started: str | None
    finished: str | None
    exit_reason: str | None

    @classmethod
    def of(cls, item: Item) -> "Run":
        """Read a run's Item."""
        properties = item["properties"]
        return cls(
            **cls._parts(item),
            model=properties["mlops:model"],
            status=Status(properties["mlops:status"]),
            progress=float(properties.get("mlops:progress") or 0.0),
            metrics=properties.get("mlops:metrics") or {},
            objective=(properties.get("mlops:objective") or {}).get("metric"),
            objective_value=properties.get("mlops:objective_value"),
            created=properties.get("created") or properties.get("datetime"),
            started=properties.get("mlops:started"),
            finished=properties.get("mlops:finished"),
            exit_reason=(properties.get("mlops:exit") or {}).get("reason"),
        )

    @property
    def model_href(self) -> str | None:
        """The URL of the model Item that the run made, once it has."""
        return self.link(Rel.MODEL)


@dataclass(frozen=True)
class ModelVersion(Record):
    """A version of a model. ``metrics`` are the final ones of its run."""

    name: str
    version: int
    metrics: dict[str, float]
    created: str | None
    framework: str | None
    parameters: int | None

    @classmethod
    def of(cls, item: Item) -> "ModelVersion":
        """Read a model's Item."""
        properties = item["properties"]
        return cls(
            **cls._parts(item),
            name=properties["mlops:model"],
            version=int(properties["version"]),
            metrics=properties.get("mlops:metrics") or {},
            created=properties.get("created") or properties.get("datetime"),
            framework=properties.get("mlm:framework"),
            parameters=properties.get("mlm:total_parameters"),
        )

    @property
    def run_href(self) -> str | None:
        """The URL of the run that made it."""
        return self.link(Rel.TRAINING_RUN)
