"""Rules of models: registered by the system, once for each run, with the next version number."""

from urllib.parse import unquote

from pydantic import ValidationError

from mlops.identity import Role
from mlops.items.extension import MLOPS, VERSION
from mlops.items.ids import collection_id
from mlops.items.kinds import Kind
from mlops.items.model import ModelVersion
from mlops.items.rels import Rel
from mlops.items.status import Status
from stac_api import hrefs, records
from stac_api.documents import Document
from stac_api.problems import Fault, Problem, faults_of, invalid
from stac_api.records import Stored
from stac_api.rules import Writing, add_extensions, now, versions
from stac_api.rules.immutable import check_only_description_changed
from stac_api.rules.training_run import status_of


class ModelRules:
    """Rules of a model version."""

    alone = False

    async def admit(self, writing: Writing, item: Document) -> Stored | None:
        """Take the next version for a run that has no model yet, or find the one it has."""
        if writing.principal.role is not Role.SYSTEM:
            raise Problem(403, "A model is registered by the system when its run is successful.")
        name = _check_request(item).model
        run = _run_of(writing, item)
        run_record = await records.lock_item(writing.connection, *run)
        if run_record is None:
            raise invalid("The model's run does not exist.", Fault("/links", f"no run {run[1]}"))
        existing = await versions.find(writing, name, run[1])
        if existing is not None:
            return existing
        status = status_of(run_record.document)
        if status.is_terminal:
            raise Problem(409, f"Run {run[1]} is {status}: no model can be registered for it.")
        version = await versions.take(writing, item, name, run[1])
        properties = item["properties"]
        properties["mlops:run"] = run[1]
        properties.setdefault("title", f"{name} v{version.number}")
        properties["created"] = properties["updated"] = now()
        add_extensions(item, MLOPS, VERSION)
        return None

    async def settle(self, writing: Writing, item: Document) -> None:
        """Link the older versions, and end the run as successful with a link to its model."""
        await versions.link_older(writing, item, item["properties"]["mlops:model"])
        collection = collection_id(writing.workspace, Kind.TRAINING_RUN)
        place = await records.place_of(writing.connection, collection)
        run = await records.lock_item(
            writing.connection, collection, item["properties"]["mlops:run"]
        )
        assert run is not None  # locked by admit in this transaction
        document = run.document
        properties = document["properties"]
        properties["mlops:status"] = Status.SUCCESSFUL.value
        properties["mlops:progress"] = 1.0
        properties["updated"] = now()
        properties.setdefault("mlops:finished", properties["updated"])
        document["links"] = [link for link in document["links"] if link["rel"] != Rel.MODEL] + [
            {
                "rel": Rel.MODEL.value,
                "type": hrefs.GEOJSON,
                "href": hrefs.stored_item_href(item["collection"], item["id"]),
                "title": item["id"],
            }
        ]
        await records.update_item(writing.connection, place, document)

    async def check_change(self, writing: Writing, before: Document, after: Document) -> None:  # noqa: ARG002
        """A version is immutable, but for what describes it."""
        check_only_description_changed("A model version", before, after)


def _check_request(item: Document) -> ModelVersion:
    try:
        return ModelVersion.model_validate(item["properties"])
    except ValidationError as error:
        raise invalid("The item is not a valid model.", *faults_of(error, "properties")) from error


def _run_of(writing: Writing, item: Document) -> tuple[str, str]:
    """Collection and id of the run that the model's link names."""
    collection = collection_id(writing.workspace, Kind.TRAINING_RUN)
    prefix = f"{hrefs.collection_url(hrefs.ROOT, collection)}/items/"
    for link in item.get("links") or []:
        if isinstance(link, dict) and link.get("rel") == Rel.TRAINING_RUN:
            href = str(link.get("href"))
            if href.startswith(prefix):
                return collection, unquote(href[len(prefix) :])
    raise invalid(
        "A model needs a link to the run that made it.",
        Fault("/links", f"needs rel {Rel.TRAINING_RUN} to a run in {collection}"),
    )
