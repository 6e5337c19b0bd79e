"""Rules of training data: a dataset version is made once and never changed."""

import re

from mlops.items.extension import FILE, MLOPS, VERSION
from mlops.items.ids import InvalidIdError, check_id
from stac_api.documents import Document
from stac_api.problems import Fault, Problem, invalid
from stac_api.records import Stored
from stac_api.rules import Writing, add_extensions, now, versions
from stac_api.rules.immutable import check_only_description_changed

_DIGEST = re.compile(r"\A[0-9a-f]{64}\Z")
_WHOLE_WORLD = {
    "type": "Polygon",
    "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
}


class TrainingDataRules:
    """Rules of a dataset version."""

    async def admit(self, writing: Writing, item: Document) -> Stored | None:
        """Give the next version of the dataset, or find the one with the same manifest."""
        properties = item["properties"]
        _check_request(item)
        name, digest = properties["mlops:dataset"], properties["mlops:manifest_digest"]
        existing = await versions.find(writing, name, digest)
        if existing is not None:
            return existing
        await versions.take(writing, item, name, digest)
        if properties.get("mlops:non_spatial") is True and item.get("geometry") is None:
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


def _check_request(item: Document) -> None:
    properties = item["properties"]
    faults = []
    try:
        check_id(properties.get("mlops:dataset"), "dataset name")
    except InvalidIdError as error:
        faults.append(Fault("/properties/mlops:dataset", str(error)))
    digest = properties.get("mlops:manifest_digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        faults.append(
            Fault("/properties/mlops:manifest_digest", "must be a SHA-256 in lower-case hex digits")
        )
    samples = properties.get("mlops:samples")
    if not isinstance(samples, int) or samples < 1:
        faults.append(Fault("/properties/mlops:samples", "must be a number of samples above zero"))
    manifest = (item.get("assets") or {}).get("manifest")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("file:checksum"), str):
        faults.append(Fault("/assets/manifest", "is needed, with its file:checksum"))
    if faults:
        raise invalid("The item is not a valid dataset version.", *faults)
    if item.get("geometry") is None and properties.get("mlops:non_spatial") is not True:
        raise Problem(
            422,
            "A dataset version needs the footprint of its samples as geometry.",
            [Fault("/geometry", "is needed; for data with no place, set mlops:non_spatial")],
        )
