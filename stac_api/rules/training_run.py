"""Rules of training runs: what was asked is immutable, what was measured is the system's."""

from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from mlops.identity import Role
from mlops.items.extension import FILE, ML_AOI, MLOPS
from mlops.items.ids import new_run_id
from mlops.items.kinds import Kind
from mlops.items.rels import Rel
from mlops.items.status import Status, StatusChangeError, check_transition
from mlops.items.training_run import ASKED, MEASURED, RunRecord, RunRequest
from mlops.recipes import RECIPES
from stac_api import hrefs, records
from stac_api.documents import Document, too_large
from stac_api.problems import Fault, Problem, faults_of, invalid, pointer
from stac_api.records import Stored
from stac_api.rules import Writing, add_extensions, now
from stac_api.rules.immutable import changed_properties
from stac_api.settings import Settings
from stac_api.strict_json import equal_json
from stac_api.validation import parse_time

# When a run was accepted, and what its data are of.
_TIMES = frozenset({"datetime", "start_datetime", "end_datetime", "created"})
_SPLITS = ("train", "validate", "test")


class TrainingRunRules:
    """Rules of a training run."""

    alone = True

    async def admit(self, writing: Writing, item: Document) -> Stored | None:
        """Check what is asked and fill in what the server owns."""
        properties = item["properties"]
        request = _check_request(properties, writing.settings.engines)
        item.setdefault("id", new_run_id(request.model))
        datasets = await _resolve_datasets(writing, item)
        if item.get("geometry") is None:
            item["geometry"] = await _footprint(writing, datasets)
            item.pop("bbox", None)
        created = now()
        if properties.get("datetime") is None and "start_datetime" not in properties:
            properties["datetime"] = created
        properties["created"] = properties["updated"] = created
        properties.setdefault("title", item["id"])
        properties["mlops:compute"] = {
            "engine": writing.settings.engines[0],
            **properties.get("mlops:compute", {}),
        }
        properties["mlops:status"] = Status.ACCEPTED.value
        properties["mlops:progress"] = 0.0
        properties["mlops:attempt"] = 1
        properties["mlops:requested_by"] = writing.principal.name
        item.setdefault("assets", {})
        _check_links(item)
        item["links"].append(
            {
                "rel": Rel.WORKSPACE.value,
                "type": hrefs.JSON,
                "href": f"{hrefs.ROOT}workspaces/{writing.workspace}",
            }
        )
        add_extensions(item, MLOPS, ML_AOI)
        if _size(writing, item) > room_of(writing.settings):
            raise too_large("run", room_of(writing.settings))
        return None

    async def settle(self, writing: Writing, item: Document) -> None:
        """Nothing else depends on a new run."""

    async def check_change(self, writing: Writing, before: Document, after: Document) -> None:
        """Hold every change to the rules of the run's status and of who may write what."""
        old = status_of(before)
        _check_asked(before, after)
        _check_status(writing, old, after)
        # Without them nobody checks, or finds, what their fields say.
        add_extensions(after, MLOPS, ML_AOI, *([FILE] if after.get("assets") else []))
        if writing.principal.measures(after["collection"], after["id"]):
            _check_attempt(writing, before, after)
            _check_record(after)
            if writing.principal.role is Role.JOB:
                _check_job_change(before, after)
        else:
            _check_user_change(before, after)
            if room_of(writing.settings) < _size(writing, after) > _size(writing, before):
                raise too_large("run", room_of(writing.settings))


def room_of(settings: Settings) -> int:
    """How large a run may become by what its client says, and by metrics.

    The rest of an item's size is for what else the system has to say of the run: one that is full
    could not be ended.
    """
    return settings.max_body_bytes // 2


def _size(writing: Writing, run: Document) -> int:
    return len(hrefs.render_item(run, writing.base_url))


def known_status(run: Document) -> Status | None:
    """Where a stored run stands; None for one that was never submitted here.

    SQL tools load items of any shape; only what came through the rules has a status and an attempt.
    """
    properties = run.get("properties") or {}
    if not isinstance(properties.get("mlops:attempt"), int):
        return None
    return next((s for s in Status if s == properties.get("mlops:status")), None)


def status_of(run: Document) -> Status:
    """Where a stored run stands; 409 for one that was never submitted here."""
    status = known_status(run)
    if status is None:
        detail = f"Run {run['id']} was not submitted through the API and has no status"
        raise Problem(409, f"{detail}: delete it and submit a new run.")
    return status


def _check_request(properties: Document, engines: list[str]) -> RunRequest:
    try:
        request = RunRequest.model_validate(properties)
    except ValidationError as error:
        raise invalid("The run asks for something invalid.", *_request_faults(error)) from error
    faults = [
        Fault(pointer("properties", name), "is written by the system; leave it out")
        for name in sorted(MEASURED & properties.keys())
    ]
    if properties.get("mlops:status", Status.ACCEPTED) != Status.ACCEPTED:
        faults.append(Fault("/properties/mlops:status", "must be accepted, or left out"))
    engine = (properties.get("mlops:compute") or {}).get("engine", engines[0])
    if engine not in engines:
        detail = f"{engine} is not available here; choose {' or '.join(engines)}"
        faults.append(Fault("/properties/mlops:compute/engine", detail))
    if request.source is not None:
        detail = "own code is not supported yet; name a built-in mlops:recipe"
        faults.append(Fault("/properties/mlops:source", detail))
    elif request.recipe is not None:
        faults += _check_recipe(request)
    if faults:
        raise invalid("The run asks for something that is not possible here.", *faults)
    return request


def _check_links(item: Document) -> None:
    """What a run leads to, and where it belongs, is not its client's to say."""
    faults = [
        Fault(pointer("links", index, "rel"), "is written by the system; leave the link out")
        for index, link in enumerate(item["links"])
        if isinstance(link, dict) and link.get("rel") in (Rel.MODEL, Rel.WORKSPACE)
    ]
    if faults:
        raise invalid("The run has links that are the system's.", *faults)


def _request_faults(error: ValidationError) -> list[Fault]:
    faults = faults_of(error, "properties")
    # A fault of the whole has no place of its own: it belongs to the properties.
    return [Fault(f.pointer or "/properties", f.detail) for f in faults]


def _check_recipe(request: RunRequest) -> list[Fault]:
    recipe = RECIPES.get(request.recipe or "")
    if recipe is None:
        known = ", ".join(sorted(RECIPES))
        detail = f"there is no recipe {request.recipe}; GET /recipes lists them: {known}"
        return [Fault("/properties/mlops:recipe", detail)]
    faults = []
    for what, value, allowed in (
        ("framework", request.framework, recipe.frameworks),
        ("task", request.task, recipe.tasks),
    ):
        if value not in allowed:
            detail = f"recipe {recipe.name} does not do {value}; choose {' or '.join(allowed)}"
            faults.append(Fault(f"/properties/mlops:{what}", detail))
    try:
        recipe.hyperparameters.model_validate(request.hyperparameters)
    except ValidationError as error:
        faults += faults_of(error, "properties", "mlops:hyperparameters")
    return faults


async def _resolve_datasets(writing: Writing, item: Document) -> list[tuple[str, str]]:
    """Check the training-data links, complete them, and return collection and id of each."""
    found: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for index, link in enumerate(item.get("links") or []):
        if not isinstance(link, dict) or link.get("rel") != Rel.TRAINING_DATA:
            continue
        where = pointer("links", index)
        split = link.get("ml-aoi:split")
        if split is not None and split not in _SPLITS:
            faults.append(Fault(f"{where}/ml-aoi:split", f"must be one of {', '.join(_SPLITS)}"))
        href = str(link.get("href"))
        if href not in writing.datasets:
            writing.datasets[href] = await _find_dataset(writing, href)
        target = writing.datasets[href]
        if target is None:
            shown = href.replace(hrefs.ROOT, writing.base_url)
            detail = f"{shown} is no dataset version of this API"
            faults.append(Fault(f"{where}/href", detail))
            continue
        found.append(target)
        link["href"] = hrefs.stored_item_href(*target)
        link.setdefault("type", hrefs.GEOJSON)
        link.setdefault("title", target[1])
    if not found and not faults:
        faults.append(Fault("/links", f"needs a link with rel {Rel.TRAINING_DATA}"))
    if faults:
        raise invalid("The run's training data cannot be used.", *faults)
    return found


async def _footprint(writing: Writing, datasets: list[tuple[str, str]]) -> Document | None:
    key = tuple(datasets)
    if key not in writing.footprints:
        connection = await writing.idle_connection()
        writing.footprints[key] = await records.footprint_of(connection, datasets)
    return writing.footprints[key]


async def _find_dataset(writing: Writing, href: str) -> tuple[str, str] | None:
    root = f"{hrefs.ROOT}collections/"
    parts = href[len(root) :].split("/") if href.startswith(root) else []
    if len(parts) != 3 or parts[1] != "items":
        return None
    collection, item = unquote(parts[0]), unquote(parts[2])
    connection = await writing.idle_connection()
    row = await connection.fetchrow(
        "SELECT 1 FROM pgstac.items i JOIN pgstac.collections c ON c.id = i.collection"
        " WHERE i.collection = $1 AND i.id = $2 AND c.content->>'mlops:kind' = $3",
        *(collection, item, Kind.TRAINING_DATA.value),
    )
    return (collection, item) if row is not None else None


def _check_asked(before: Document, after: Document) -> None:
    faults = [
        Fault(pointer("properties", name), "cannot be changed")
        for name in sorted(ASKED)
        if not equal_json(before["properties"].get(name), after["properties"].get(name))
    ]
    if _links(before, Rel.TRAINING_DATA) != _links(after, Rel.TRAINING_DATA):
        faults.append(Fault("/links", "the training data cannot be changed"))
    if faults:
        detail = "What a run was asked to do is immutable: submit a new run."
        raise Problem(409, detail, faults)


def _check_status(writing: Writing, old: Status, after: Document) -> None:
    try:
        new = Status(after["properties"].get("mlops:status"))
        check_transition(old, new)
    except StatusChangeError as error:
        raise Problem(409, str(error), [Fault("/properties/mlops:status", str(error))]) from error
    except ValueError as error:
        known = ", ".join(Status)
        raise invalid(
            "The status is not valid.", Fault("/properties/mlops:status", f"must be one of {known}")
        ) from error
    if new is old:
        return
    role = writing.principal.role
    if role is Role.USER and new is not Status.DISMISSED:
        raise Problem(409, f"A client may dismiss a run; that it is {new} is the system's to say.")
    if role is Role.JOB and new is not Status.RUNNING:
        raise Problem(409, f"A job may say that it runs; that the run is {new} is not its to say.")


def _check_attempt(writing: Writing, before: Document, after: Document) -> None:
    old, new = before["properties"]["mlops:attempt"], after["properties"].get("mlops:attempt")
    acting = writing.principal.attempt if writing.principal.role is Role.JOB else new
    if not isinstance(new, int) or new < old or (acting is not None and acting < old):
        raise Problem(409, f"The run is at attempt {old}; this comes from an older one.")
    if writing.principal.role is Role.JOB:
        if new != old:
            raise Problem(409, "A job cannot change the attempt of its run.")
        # A dismissed job still hands over what it has saved on its way out.
        if status_of(before) in (Status.SUCCESSFUL, Status.FAILED):
            raise Problem(409, "The run has ended; its job has nothing more to say.")


def _check_record(after: Document) -> None:
    try:
        RunRecord.model_validate(after["properties"])
    except ValidationError as error:
        faults = faults_of(error, "properties")
        raise invalid("What was measured is not valid.", *faults) from error
    faults = []
    for name in ("mlops:started", "mlops:finished"):
        if after["properties"].get(name) is not None:
            try:
                parse_time(after["properties"][name])
            except ValueError as error:
                faults.append(Fault(pointer("properties", name), str(error)))
    if faults:
        raise invalid("What was measured is not valid.", *faults)


def _check_user_change(before: Document, after: Document) -> None:
    """A client describes a run; everything the system measured stays as it is."""
    old, new = before["properties"], after["properties"]
    free = frozenset(name for name in old.keys() | new.keys() if not name.startswith("mlops:"))
    faults = changed_properties(
        before, after, allowed=(free - _TIMES) | {"mlops:status", "mlops:tags"}
    )
    faults += _changed_place(before, after)
    if not equal_json(before.get("assets"), after.get("assets")):
        faults.append(Fault("/assets", "cannot be changed"))
    if faults:
        detail = "A client may change a run's title, description and tags, or dismiss it."
        raise Problem(409, detail, faults)


def _check_job_change(before: Document, after: Document) -> None:
    """A job says what it measured; where and when its run belongs is not its to say."""
    others = frozenset(before["properties"].keys() | after["properties"].keys()) - _TIMES
    faults = changed_properties(before, after, allowed=others) + _changed_place(before, after)
    if faults:
        raise Problem(409, "A job may write what it measured on its run.", faults)


def _changed_place(before: Document, after: Document) -> list[Fault]:
    """A fault for each part that differs and says where a run belongs, or what it led to."""
    faults = [
        Fault(pointer(part), "cannot be changed")
        for part in ("geometry", "bbox")
        if not equal_json(before.get(part), after.get(part))
    ]
    faults += [
        Fault("/links", f"the {rel} link cannot be changed")
        for rel in (Rel.MODEL, Rel.WORKSPACE)
        if _links(before, rel) != _links(after, rel)
    ]
    return faults


def _links(item: Document, rel: Rel) -> list[Any]:
    return [
        (link.get("href"), link.get("ml-aoi:split"))
        for link in item.get("links") or []
        if isinstance(link, dict) and link.get("rel") == rel
    ]
