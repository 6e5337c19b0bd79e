"""From a run that was asked for to the job that an engine starts."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from aws_lambda_powertools import Logger
from pydantic import ValidationError

from functions.runs import Run, accepted_event, fail_run, link_job, note_waiting
from functions.services import Services
from functions.waiting import LaunchQueue, pause
from mlops import request_ids
from mlops.api import Item, NotFoundError
from mlops.engines import Engine, EngineBusyError, EngineRefusedError, JobSpec
from mlops.items.rels import Rel
from mlops.items.training_run import RunRequest
from mlops.jobs import RUN_TOKEN_ENV, JobDataset, JobDocument, Split
from mlops.recipes import RECIPES, Recipe
from mlops.storage import StorageError
from mlops.storage.hrefs import key_of

# A job waits for a place, uploads and reports beside the time that it may run.
_TOKEN_MARGIN = 86400
_MULTIHASH_SHA256 = "1220"
# A message may come so much before its time, by the clocks of two machines.
_CLOCKS_DIFFER = timedelta(seconds=1)
_SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "test": "test"}


class RequestError(Exception):
    """What a run asks for cannot be done, now or later; the message says what to change."""


def start_attempt(run: Run, services: Services, logger: Logger) -> None:
    """Start the job of a run's present attempt, or find it started, and link the run to it.

    A request that cannot be met ends the run; one that the engine has no room for now waits in the
    queue; whatever else may pass raises.
    """
    try:
        spec = job_spec(run, services)
        engine = engine_of(run, services)
        handle = engine.start(spec)
    except (RequestError, EngineRefusedError) as error:
        logger.warning("run cannot be started", extra={"run": run.id, "reason": str(error)})
        fail_run(services.api, run, None, str(error))
        return
    except EngineBusyError as error:
        if services.launch_queue is None:
            raise
        _postpone(run, error, services, services.launch_queue, logger)
        return
    linked = link_job(services.api, run, handle)
    if linked is None or linked.status.is_terminal:
        # It was dismissed, deleted or tried anew while its job was being started.
        engine.stop(handle.id)
        logger.info("job stopped: its run ended meanwhile", extra={"run": run.id, "job": handle.id})
        return
    logger.info("job started", extra={"run": run.id, "attempt": run.attempt, "job": handle.id})


def waits(run: Run) -> bool:
    """Whether a later message starts the run's present attempt: its engine had no room for it."""
    waiting = run.record.waiting
    return waiting is not None and waiting.until > datetime.now(UTC) + _CLOCKS_DIFFER


def engine_of(run: Run, services: Services) -> Engine:
    """The engine that a run asks for; RequestError when this deployment does not have it."""
    engine = services.engines.get(run.engine_name)
    if engine is None:
        known = " or ".join(sorted(services.engines)) or "none"
        raise RequestError(f"There is no engine {run.engine_name!r} here; available: {known}.")
    return engine


def job_spec(run: Run, services: Services) -> JobSpec:
    """All that an engine needs to start the job of a run's present attempt.

    Raises:
        RequestError: the run or a dataset that it names is not as it should be.
    """
    request = _request(run)
    recipe = _recipe(request)
    objective = request.objective
    document = JobDocument(
        name=run.job,
        workspace=run.workspace,
        collection=run.collection,
        item=run.id,
        attempt=run.attempt,
        api_url=services.api.url,
        api_signed=services.api_signed,
        storage_url=services.store.url,
        output_prefix=run.output_prefix,
        model=request.model,
        task=request.task,
        framework=request.framework,
        recipe=recipe.name,
        hyperparameters=request.hyperparameters,
        objective_metric=objective.metric if objective else recipe.default_metric,
        objective_goal=cast(Any, objective.goal if objective else recipe.default_goal),
        datasets=job_datasets(run, services),
        max_runtime=request.compute.max_runtime,
        request_id=request_ids.current(),
    )
    lifetime = request.compute.max_runtime + _TOKEN_MARGIN
    token = services.job_token(run.collection, run.id, run.attempt, lifetime)
    return JobSpec(
        name=run.job,
        document=document,
        max_runtime=request.compute.max_runtime,
        secrets={RUN_TOKEN_ENV: token},
        instance_type=request.compute.instance_type,
        instance_count=request.compute.instance_count,
        spot=request.compute.spot,
        tags={
            "mlops:workspace": run.workspace,
            "mlops:run": run.id,
            "mlops:requester": run.record.requested_by or "unknown",
        },
    )


def job_datasets(run: Run, services: Services) -> list[JobDataset]:
    """The dataset versions that a run links to, as its job is told of them."""
    datasets = []
    for link in training_data_links(run.item):
        collection, identity, item = read_dataset(services, str(link["href"]))
        key, sha256 = _manifest(services, item)
        datasets.append(
            JobDataset(
                collection=collection,
                item=identity,
                split=_split(link),
                manifest_key=key,
                manifest_sha256=sha256,
                classes=item["properties"].get("classification:classes") or [],
            )
        )
    if not datasets:
        raise RequestError("The run names no training data: link to a dataset version.")
    return datasets


def training_data_links(item: Item) -> list[dict[str, Any]]:
    """A run's links to its dataset versions."""
    return [link for link in item.get("links", []) if link.get("rel") == Rel.TRAINING_DATA]


def read_dataset(services: Services, href: str) -> tuple[str, str, Item]:
    """Collection, id and item of the dataset version that ``href`` names."""
    segments = [unquote(part) for part in urlsplit(href).path.split("/")]
    if len(segments) < 4 or segments[-4] != "collections" or segments[-2] != "items":
        raise RequestError(f"{href} is no dataset version: link to an item of this API.")
    collection, item = segments[-3], segments[-1]
    try:
        return collection, item, services.api.get_item(collection, item).item
    except NotFoundError as error:
        raise RequestError(
            f"Dataset version {item} is not in {collection} any more: push it again, or submit "
            "the run with another one."
        ) from error


def _postpone(
    run: Run, busy: EngineBusyError, services: Services, queue: LaunchQueue, logger: Logger
) -> None:
    """Put the run's attempt back into the queue, and say on the run why it waits.

    It is written down first. So whoever comes before its time knows that another message is on its
    way, and there is never more than one for a run; if that one is lost, `reconcile` sees from the
    same note that its time has passed.
    """
    created = datetime.fromisoformat(run.properties["created"])
    seconds = pause(busy.retry_after, created)
    noted = note_waiting(services.api, run, str(busy), datetime.now(UTC) + seconds)
    if noted is None:
        logger.info("not postponed: the run ended meanwhile", extra={"run": run.id})
        return
    queue.postpone(accepted_event(noted, services.api.url), seconds.total_seconds())
    wait = {"run": run.id, "seconds": round(seconds.total_seconds()), "reason": str(busy)}
    logger.info("postponed: the engine is busy", extra=wait)


def _request(run: Run) -> RunRequest:
    try:
        return run.request
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise RequestError(f"The run asks for something invalid: {faults}") from error


def _recipe(request: RunRequest) -> Recipe:
    if request.recipe is None:
        raise RequestError("Own code is not supported here: name a recipe of GET /recipes.")
    recipe = RECIPES.get(request.recipe)
    if recipe is None:
        raise RequestError(f"There is no recipe {request.recipe!r}: see GET /recipes.")
    if request.framework not in recipe.frameworks:
        known = " or ".join(recipe.frameworks)
        raise RequestError(f"Recipe {recipe.name} has no {request.framework}: choose {known}.")
    return recipe


def _split(link: dict[str, Any]) -> Split | None:
    split = link.get("ml-aoi:split")
    if split is None:
        return None
    if split not in _SPLITS:
        raise RequestError(f"{split!r} is no split: use {', '.join(_SPLITS)}.")
    return _SPLITS[split]


def _manifest(services: Services, item: Item) -> tuple[str, str]:
    asset = item.get("assets", {}).get("manifest")
    if asset is None:
        raise RequestError(f"Dataset version {item['id']} has no manifest: push the dataset again.")
    checksum = str(asset.get("file:checksum", ""))
    if not checksum.startswith(_MULTIHASH_SHA256) or len(checksum) != 68:
        raise RequestError(
            f"The manifest of {item['id']} has no SHA-256 in file:checksum: push the dataset again."
        )
    try:
        key = key_of(services.store, services.api.url, asset["href"])
    except StorageError as error:
        raise RequestError(f"The manifest of {item['id']} cannot be read: {error}") from error
    return key, checksum.removeprefix(_MULTIHASH_SHA256)
