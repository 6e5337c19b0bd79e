"""The classes of a dataset: as ``classes.json`` says, else as the labels show them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mlops.datasets import DatasetError
from mlops.datasets.layout import CLASSES_FILE


class DatasetClass(BaseModel):
    """A class object of STAC's classification extension.

    The extension's names hold letters, digits, - and _ only: any other name is kept as the
    description, and its name made from it.

    >>> DatasetClass(value=1, name="Cultivated land").to_stac()
    {'value': 1, 'name': 'Cultivated-land', 'description': 'Cultivated land'}
    """

    model_config = ConfigDict(extra="forbid")

    value: int
    name: Annotated[str, Field(min_length=1, pattern=r"^[0-9A-Za-z_-]+$")]
    description: str | None = None
    color_hint: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{6}$")] | None = None
    nodata: bool = False

    @model_validator(mode="before")
    @classmethod
    def _name_of_title(cls, entry: Any) -> Any:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            return entry
        title = entry["name"].strip()
        name = re.sub(r"[^0-9A-Za-z_-]+", "-", title).strip("-")
        if not name or name == title:
            return {**entry, "name": title}
        return {**entry, "name": name, "description": entry.get("description") or title}

    def to_stac(self) -> dict[str, Any]:
        """As an Item shows it; the extension asks for a description."""
        entry: dict[str, Any] = {
            "value": self.value,
            "name": self.name,
            "description": self.description or self.name,
        }
        if self.color_hint:
            entry["color_hint"] = self.color_hint.upper()
        if self.nodata:
            entry["nodata"] = True
        return entry


_CLASSES = TypeAdapter(list[DatasetClass])


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset, sorted by value."""

    classes: tuple[DatasetClass, ...]

    def names_of(self, values: set[int]) -> tuple[str, ...]:
        """Names of the classes among these label values, without what means "no data"."""
        return tuple(sorted(c.name for c in self.classes if c.value in values and not c.nodata))

    @property
    def values(self) -> frozenset[int]:
        """Every value that has a meaning."""
        return frozenset(entry.value for entry in self.classes)


def read_classes(folder: Path) -> ClassTable | None:
    """The classes in the folder's ``classes.json``, or None where it has no such file."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        classes = _CLASSES.validate_json(path.read_bytes())
    except ValidationError as error:
        places = [
            f"{CLASSES_FILE}: {'/'.join(str(part) for part in problem['loc']) or 'the file'}: "
            f"{problem['msg']}"
            for problem in error.errors()
        ]
        raise DatasetError(places) from error
    for what in ("value", "name"):
        seen = [getattr(entry, what) for entry in classes]
        twice = sorted({str(entry) for entry in seen if seen.count(entry) > 1})
        if twice:
            raise DatasetError([f"{CLASSES_FILE}: {what} {', '.join(twice)} occurs twice"])
    return ClassTable(tuple(sorted(classes, key=lambda entry: entry.value)))


def classes_found(values: set[int], nodata: set[int]) -> ClassTable:
    """Classes named after the values that the label rasters hold.

    >>> [entry.name for entry in classes_found({0, 3}, nodata={0}).classes]
    ['nodata-0', 'class-3']
    """
    classes = []
    for value in sorted(values):
        missing = value in nodata
        name = f"nodata-{value}" if missing else f"class-{value}"
        classes.append(DatasetClass(value=value, name=name, nodata=missing))
    return ClassTable(tuple(classes))


def write_classes(folder: Path, classes: list[DatasetClass]) -> None:
    """Write ``classes.json``."""
    entries = [entry.model_dump(exclude_none=True, exclude_defaults=True) for entry in classes]
    (folder / CLASSES_FILE).write_text(json.dumps(entries, indent=2) + "\n")
