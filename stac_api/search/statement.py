"""A statement in the making: SQL text with its arguments beside it, never inside it."""

from datetime import datetime
from typing import Any

import orjson

Argument = str | float | int | bool | datetime | list[str] | None


class Arguments:
    """The arguments of one statement, numbered as they come."""

    def __init__(self) -> None:
        self.values: list[Argument] = []

    def add(self, value: Argument, type_: str) -> str:
        """The placeholder of a value, cast to a PostgreSQL type."""
        self.values.append(value)
        return f"${len(self.values)}::{type_}"

    def json(self, value: Any) -> str:
        """The placeholder of a JSON value."""
        return self.add(orjson.dumps(value).decode(), "text::jsonb")
