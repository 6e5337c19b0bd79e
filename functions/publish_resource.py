"""Registers published models and datasets in the configured discovery catalogues.

Events: ``model.published`` and ``training-data.published``. The same event twice leaves the same
entries; what was taken back meanwhile is not registered.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
from aws_lambda_powertools import Logger

from functions.catalogue_auth import auth_of
from functions.catalogues import Catalogue
from functions.messages import Handler, from_environment, queue_handler
from functions.publications import at_public_root, record_entry, stac_entry
from functions.services import Services
from mlops.api import Item, NotFoundError
from mlops.events import BusEvent, Function, RecordEvent

_GEOJSON = "application/geo+json"
_TIMEOUT = 30.0
_PUBLISHED = "mlops:published"
# pycsw answers 400 where others answer 409.
_TAKEN = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT})

Clients = Callable[[Catalogue], httpx.Client]


class CatalogueError(Exception):
    """A catalogue did not take an entry; the message has its answer and what to look at."""


def publish_resource(event: BusEvent, services: Services, clients: Clients, logger: Logger) -> None:
    """Register the Item everywhere; a catalogue that fails does not keep the others."""
    published = event.record()
    kind = event.detail_type.removesuffix(".published")
    targets = [one for one in services.catalogues if one.takes(published.workspace, kind)]
    noted = {"item": published.item, "collection": published.collection}
    if not targets:
        logger.info("dropped: no catalogue takes it", extra=noted)
        return
    item = _read(published, services)
    if item is None:
        logger.info("dropped: it is gone, or not published any more", extra=noted)
        return
    faults: list[Exception] = []
    for target in targets:
        try:
            _register(target, _entry(target, item, published.workspace, kind), clients(target))
            logger.info("registered", extra={**noted, "catalogue": target.name})
        except Exception as error:
            logger.exception("not registered", extra={**noted, "catalogue": target.name})
            faults.append(error)
    if faults:
        raise ExceptionGroup("some catalogues did not take the item", faults)


def build(services: Services) -> Handler:
    """The handler of the function's queue."""
    made: dict[str, httpx.Client] = {}

    def client(catalogue: Catalogue) -> httpx.Client:
        if catalogue.name not in made:
            made[catalogue.name] = httpx.Client(auth=auth_of(catalogue), timeout=_TIMEOUT)
        return made[catalogue.name]

    return queue_handler(
        Function.PUBLISH_RESOURCE,
        lambda event, services, logger: publish_resource(event, services, client, logger),
        services,
    )


def _read(published: RecordEvent, services: Services) -> Item | None:
    try:
        item = services.api.get_item(published.collection, published.item).item
    except NotFoundError:
        return None
    if item["properties"].get(_PUBLISHED) is not True:
        return None
    # The event links to the Item as everybody reaches it.
    root, _, _ = published.href.partition("/collections/")
    return at_public_root(item, services.api.url, root)


def _entry(target: Catalogue, item: Item, workspace: str, kind: str) -> dict[str, Any]:
    if target.kind == "stac":
        return stac_entry(item, workspace, target.collection)
    return record_entry(item, workspace, kind)


def _register(target: Catalogue, entry: dict[str, Any], client: httpx.Client) -> None:
    """Create the entry, or put it in the place of the one that is there.

    It is looked for first: some servers answer PUT well though there is nothing to replace, others
    create it.
    """
    # Without escaping the colon: pycsw's collection is metadata:main.
    items = f"{target.url.rstrip('/')}/collections/{quote(target.collection, safe=':')}/items"
    own = f"{items}/{quote(entry['id'], safe='')}"
    if not _is_there(target, client, own):
        answer = _send(target, client, "POST", items, entry)
        if answer.is_success:
            return
        if answer.status_code not in _TAKEN or not _is_there(target, client, own):
            raise _refused(target, answer)
        # Another delivery of the event was faster.
    answer = _send(target, client, "PUT", own, entry)
    if not answer.is_success:
        raise _refused(target, answer)


def _is_there(target: Catalogue, client: httpx.Client, url: str) -> bool:
    answer = _send(target, client, "GET", url, None)
    if answer.is_success:
        return True
    if answer.status_code == httpx.codes.NOT_FOUND:
        return False
    raise _refused(target, answer)


def _send(
    target: Catalogue, client: httpx.Client, method: str, url: str, entry: dict[str, Any] | None
) -> httpx.Response:
    headers = {"Accept": _GEOJSON} if entry is None else {"Content-Type": _GEOJSON}
    try:
        return client.request(method, url, json=entry, headers=headers)
    except httpx.TransportError as error:
        raise CatalogueError(f"Catalogue {target.name} cannot be reached: {error}") from error


def _refused(target: Catalogue, answer: httpx.Response) -> CatalogueError:
    said = " ".join(answer.text.split())[:300]
    advice = {
        401: "check the secret that its settings name",
        403: "its user may not write there",
        404: f"it needs a collection {target.collection!r}",
        405: "its transactions are switched off",
    }.get(answer.status_code, "its log may say more")
    return CatalogueError(
        f"Catalogue {target.name} answered {answer.status_code} to {answer.request.method} "
        f"{answer.request.url}: {said} ({advice})"
    )


_from_environment = from_environment(build)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
