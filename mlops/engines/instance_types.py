"""The table of machines: GPUs, memory and, where one is known, a price with its source.

It is one data file, ``instance_types.json``, that a deployment can replace by its own: a path or
an ``s3://`` URL in the engines' settings.
"""

import json
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.engines import EngineRefusedError
from mlops.storage import StorageError, open_store

_BUILT_IN = Path(__file__).with_name("instance_types.json")
_LIMIT = 4 << 20
_SAGEMAKER_PREFIX = "ml."
# What is left of a machine's memory for a container, when the system and the agents have theirs:
# a Batch job that asks for all of it is never placed.
_CONTAINER_SHARE = 0.92

EngineName = Literal["sagemaker", "batch"]


class InstanceTypesError(Exception):
    """The table of instance types cannot be read; the message says what is wrong with it."""


class Price(BaseModel):
    """What an hour of one machine costs, who says so, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineName
    spot: bool = False
    per_hour: Annotated[float, Field(gt=0)]
    source: Annotated[str, Field(min_length=8)]
    date: date


class InstanceType(BaseModel):
    """One type of machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vcpus: Annotated[int, Field(ge=1)]
    memory_gib: Annotated[float, Field(gt=0)]
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu: str | None = None
    gpu_memory_gib: float | None = None
    """Of one GPU."""
    local_disk_gb: Annotated[int, Field(ge=0)] = 0
    """Disks in the machine, which encrypt themselves: SageMaker takes no key for them."""
    sagemaker: bool = False
    """Whether SageMaker trains on this type (as ``ml.<name>``)."""
    prices: list[Price] = Field(default_factory=list)

    @property
    def container_memory_mib(self) -> int:
        """How much of the memory a container can ask for."""
        return int(self.memory_gib * 1024 * _CONTAINER_SHARE)

    def price(self, engine: EngineName, spot: bool) -> Price | None:
        """The price of an hour, if one is known."""
        return next((one for one in self.prices if (one.engine, one.spot) == (engine, spot)), None)

    def highest_price(self, engine: EngineName, spot: bool) -> Price | None:
        """The most that an hour costs: spot is never dearer than on-demand, and may fall back."""
        return self.price(engine, spot=False) or self.price(engine, spot)


class InstanceTypes(BaseModel):
    """The table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    source: str
    date: date
    currency: str
    types: Mapping[str, InstanceType]

    @cached_property
    def on_sagemaker(self) -> list[str]:
        """The names of what SageMaker trains on, without ``ml.``."""
        return [name for name, one in self.types.items() if one.sagemaker]

    def find(self, name: str, engine: EngineName) -> tuple[str, InstanceType]:
        """The type that a run names, with or without ``ml.``; its name in the table and the type.

        Raises:
            EngineRefusedError: it is not in the table, or the engine does not have it.
        """
        plain = name.removeprefix(_SAGEMAKER_PREFIX)
        found = self.types.get(plain)
        if found is None:
            raise EngineRefusedError(
                f"There is no instance type {name!r} in the table of this deployment"
                f"{self._alike(plain, engine)}: take one of them, or have it added to the table."
            )
        if engine == "sagemaker" and not found.sagemaker:
            raise EngineRefusedError(
                f"SageMaker does not train on {plain}{self._alike(plain, engine)}."
            )
        return plain, found

    def _alike(self, plain: str, engine: EngineName) -> str:
        names = self.on_sagemaker if engine == "sagemaker" else list(self.types)
        family = plain.partition(".")[0]
        near = [name for name in names if name.startswith(f"{family}.")] or names
        return f" (it has {', '.join(near[:6])}{', ...' if len(near) > 6 else ''})"


def sagemaker_name(plain: str) -> str:
    """A type's name on SageMaker."""
    return f"{_SAGEMAKER_PREFIX}{plain}"


def read_instance_types(place: str | None = None) -> InstanceTypes:
    """Read the table at a path or ``s3://`` URL; the one that comes along when left out.

    Raises:
        InstanceTypesError: it is not there, or not as it should be.
    """
    where = place or str(_BUILT_IN)
    try:
        return InstanceTypes.model_validate(json.loads(_content(where)))
    except (OSError, StorageError) as error:
        raise InstanceTypesError(
            f"the table of instance types {where} cannot be read: {error}"
        ) from error
    except (ValueError, ValidationError) as error:
        raise InstanceTypesError(
            f"the table of instance types {where} is not valid: {error}"
        ) from error


def _content(place: str) -> bytes:
    if place.startswith("s3://"):
        folder, _, name = place.rpartition("/")
        return open_store(folder).get_bytes(name, _LIMIT)
    return Path(place).read_bytes()
