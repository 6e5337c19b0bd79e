"""The rules of each kind of item: what the server fills in, what may change, and by whom."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import asyncpg

from mlops.identity import Principal
from stac_api.documents import Document
from stac_api.records import Place, Stored
from stac_api.settings import Settings


@dataclass
class Writing:
    """A write in progress: its transaction, who writes, and where."""

    connection: asyncpg.Connection
    principal: Principal
    place: Place
    base_url: str
    settings: Settings
    datasets: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    """Collection and id of each dataset version that was looked for in this write, by its href;
    None where there is none."""
    footprints: dict[tuple[tuple[str, str], ...], Document | None] = field(default_factory=dict)
    """Footprints that were made in this write, by collection and id of what they are around."""
    storing: asyncio.Task[None] | None = None
    """What the connection is busy with, where items are stored while others are checked."""

    async def idle_connection(self) -> asyncpg.Connection:
        """The connection, as soon as it is free to be asked."""
        if self.storing is not None:
            await self.storing
        return self.connection

    @property
    def workspace(self) -> str:
        """The workspace written in; only for collections that belong to one."""
        assert self.place.workspace is not None
        return self.place.workspace


class Rules(Protocol):
    """The rules of one kind."""

    alone: bool
    """Whether new items of the kind have nothing to do with one another, nor with what is stored of
    the kind, so that many may be stored at once, some while others are checked: its rules ask on
    :meth:`Writing.idle_connection`."""

    async def admit(self, writing: Writing, item: Document) -> Stored | None:
        """Check a new item and fill it in place.

        Returns what is already stored when the item asks for something that is there (the same
        dataset version, the model of the same run): nothing is written then.
        """
        ...

    async def settle(self, writing: Writing, item: Document) -> None:
        """After the item was inserted: bring what is linked to it into agreement."""
        ...

    async def check_change(self, writing: Writing, before: Document, after: Document) -> None:
        """Raise a problem when ``before`` may not become ``after``."""
        ...


def now() -> str:
    """The present time as RFC 3339 text in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add_extensions(item: Document, *urls: str) -> None:
    """Name extensions in an item, once each."""
    present = item.setdefault("stac_extensions", [])
    if isinstance(present, list):
        present.extend(url for url in urls if url not in present)
