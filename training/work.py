"""What every host of a job does: stage the data, bring back checkpoints, run the script."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops.jobs import ExitCode, JobDocument
from mlops.recipes import RECIPES
from mlops.storage import ObjectStore, keys
from training.checkpoints import Checkpoints
from training.contract import launcher, script_command, script_environment
from training.echo import Echo
from training.environment import Devices
from training.place import Place
from training.script import Script, find_failure
from training.staging import BadInputError, merged_classes, stage


@dataclass(frozen=True)
class Ending:
    """How a job ended and, in one line, why."""

    code: ExitCode
    reason: str


class Notes:
    """The agent's own lines, in the job's log and in what the platform collects."""

    def __init__(self, place: Place) -> None:
        self._log = place.folders.log
        self._echo = Echo(self._log, place.folders.metrics) if place.shows_output else None

    def write(self, text: str) -> None:
        """Add a line."""
        line = f"[mlops {now()}] {text.rstrip()}\n"
        # One unbuffered write in append mode: the script writes to the same file.
        with self._log.open("ab", buffering=0) as log:
            log.write(line.encode())
        if self._echo is None:
            os.write(1, line.encode())

    def close(self) -> None:
        """No more lines will come."""
        if self._echo is not None:
            self._echo.close()


class Work:
    """A host's part of a job. :meth:`halt` ends it early, from any thread."""

    def __init__(
        self,
        document: JobDocument,
        place: Place,
        store: ObjectStore,
        environment: Mapping[str, str],
        devices: Devices,
        note: Callable[[str], None],
    ) -> None:
        self._document, self._place, self._store = document, place, store
        self._inherited, self._devices, self._note = environment, devices, note
        self.stopping = threading.Event()
        """Set once it was ended early."""
        self._script: Script | None = None
        self._log_offset = 0
        self.checkpoints = Checkpoints(
            place.folders,
            None if place.keeps_checkpoints else store,
            keys.checkpoints(document.workspace, document.item),
            note,
        )

    def run(self) -> int | None:
        """Stage, run the script and give its return code; None when it was halted before.

        Raises:
            BadInputError: the document or the data are not as they should be.
            StoppedError: it was halted while data was staged.
        """
        document, place = self._document, self._place
        folders, gpus = place.folders, len(self._devices.gpus)
        module = recipe_module(document)
        classes = merged_classes(document.datasets)
        staged = stage(self._store, document.datasets, folders, self.stopping)
        self._note(staged.summary())
        environment = script_environment(
            document,
            folders,
            channels=staged.channels,
            classes=classes,
            gpus=gpus,
            hosts=place.hosts,
            inherited=self._inherited,
        )
        starter = launcher(document.framework, place.hosts, gpus, self._inherited)
        command = script_command(module, document.hyperparameters, starter)
        where = f" on host {place.hosts.current} of {len(place.hosts.names)}"
        self._note(f"starting {module}{where if len(place.hosts.names) > 1 else ''}")
        self._log_offset = folders.log.stat().st_size
        self._script = Script(command, environment, folders.code, folders.log)
        if self.stopping.is_set():
            self._script.stop()
        return self._script.run()

    def halt(self) -> None:
        """End the script, or what comes before it."""
        self.stopping.set()
        if self._script is not None:
            self._script.stop()

    def ending(self, code: int) -> Ending:
        """What it means that the script ended with ``code``, other than 0."""
        failure = find_failure(code, self._place.folders.log, self._log_offset)
        if failure.elsewhere:
            return Ending(ExitCode.PLATFORM_FAULT, failure.reason)
        return Ending(ExitCode.USER_CODE_FAILED, failure.reason)


def recipe_module(document: JobDocument) -> str:
    """The module that trains what the document asks for; BadInputError when there is none."""
    recipe = RECIPES.get(document.recipe)
    if recipe is None:
        raise BadInputError(
            f"there is no recipe {document.recipe!r}: use one of {', '.join(sorted(RECIPES))}"
        )
    module = recipe.module.get(document.framework)
    if module is None:
        raise BadInputError(
            f"recipe {recipe.name} has no {document.framework}: "
            f"use one of {', '.join(sorted(recipe.module))}"
        )
    return module


def now() -> str:
    """The time in UTC, as STAC writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
