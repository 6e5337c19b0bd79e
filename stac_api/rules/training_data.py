"""Rules of training data: a dataset version is made once and never changed."""

from pydantic import ValidationError

from mlops.items.extension import FILE, MLOPS, VERSION
from mlops.items.training_data import DatasetVersion, ManifestAsset
from stac_api.documents import Document
from stac_api.problems import Fault, faults_of, invalid
from stac_api.records import Stored
from stac_api.rules import Writing, add_extensions, now, versions
from stac_api.rules.immutable import check_only_description_changed

_WHOLE_WORLD = {
    "type": "Polygon",
    "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
}


class TrainingDataRules:
    """Rules of a dataset version."""

    alone = False

    async def admit(self, writing: Writing, item: Document) -> Stored | None:
        """Give the next version of the dataset, or find the one with the same manifest."""
        properties = item["properties"]
        request = _check_request(item)
        name, digest = request.dataset, request.manifest_digest
        existing = await versions.find(writing, name, digest)
        if existing is not None:
            return existing
        await versions.take(writing, item, name, digest)
        if item.get("geometry") is None:
            item["geometry"] = _WHOLE_WORLD
        properties.setdefault("title", f"{name} v{properties['version']}")
        properties["created"] = properties["updated"] = now()
        add_extensions(item, MLOPS, VERSION, FILE)
        return None

    async def settle(self, writing: Writing, item: Document) -> None:
        """Link the older versions to the new one."""
        await versions.link_older(writing, item, item["properties"]["mlops:dataset"])

    async def check_change(self, writing: Writing, before: Document, after: Document) -> None:  # noqa: ARG002
        """A version is immutable, but for what describes it."""
        check_only_description_changed("A dataset version", before, after)


def _check_request(item: Document) -> DatasetVersion:
    faults = []
    try:
        version = DatasetVersion.model_validate(item["properties"])
    except ValidationError as error:
        faults += faults_of(error, "properties")
    try:
        ManifestAsset.model_validate(item["assets"].get("manifest"))
    except ValidationError as error:
        faults += faults_of(error, "assets", "manifest")
    if faults:
        raise invalid("The item is not a valid dataset version.", *faults)
    if item.get("geometry") is None and not version.non_spatial:
        raise invalid(
            "A dataset version needs the footprint of its samples as geometry.",
            Fault("/geometry", "is needed; for data with no place, set mlops:non_spatial"),
        )
    return version
