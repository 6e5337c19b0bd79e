"""The agent: stages the data, runs the training script, reports, and uploads what it made."""

import math
import os
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from mlops.api import Api
from mlops.items.model_description import DESCRIPTION_FILE, ONNX_FILE, ModelDescription
from mlops.items.status import Status
from mlops.jobs import ExitCode, JobDocument, RunOutcome
from mlops.recipes import RECIPES
from mlops.storage import ObjectStore, StorageError, keys
from training.contract import WorkFolders, script_command, script_environment
from training.environment import describe_environment, find_devices
from training.outputs import (
    find_outputs,
    last_values,
    read_metrics,
    run_assets,
    upload,
    write_metrics_table,
)
from training.reporter import Reporter, Standing
from training.script import Script, failure_reason, shortened
from training.spool import LogTail, MetricsSpool
from training.staging import BadInputError, StoppedError, merged_classes, stage

# How long an ended job waits for an API that is away, and how long one that is being stopped.
_PATIENCE = 900.0
_PATIENCE_STOPPED = 5.0
# An engine ends a job at the same time limit: which of the two was first makes no difference.
_LIMIT_MARGIN = 2.0


@dataclass(frozen=True)
class Ending:
    """How the job ended and, in one line, why."""

    code: ExitCode
    reason: str


class Agent:
    """One job. :meth:`run` does all of it; :meth:`stop` ends it early, from any thread."""

    def __init__(
        self,
        document: JobDocument,
        folders: WorkFolders,
        store: ObjectStore,
        api: Api,
        environment: Mapping[str, str],
    ) -> None:
        self._document, self._folders, self._store = document, folders, store
        self._inherited = environment
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._halt = threading.Event()
        self._over_time = False
        self._script: Script | None = None
        self._devices = find_devices()
        self._measured_environment = describe_environment(document.framework, self._devices)
        self._reporter = Reporter(
            api,
            document,
            spool=MetricsSpool(folders.metrics, document.attempt),
            log=LogTail(folders.log),
            running={
                "mlops:status": Status.RUNNING,
                "mlops:started": _now(),
                "mlops:environment": self._measured_environment,
            },
            note=self._note,
            on_end=self._end_script,
        )

    def run(self) -> ExitCode:
        """Do the job; what happened is reported before the exit code is given."""
        self._reporter.start()
        limit = threading.Timer(self._document.max_runtime, self.stop)
        limit.daemon = True
        limit.start()
        try:
            ending = self._work()
        except BadInputError as error:
            ending = Ending(ExitCode.BAD_INPUT, str(error))
        except StoppedError:
            ending = self._stopped_ending()
        except Exception as error:  # noqa: BLE001 - no fault of the platform ends without a report
            self._note(traceback.format_exc())
            ending = Ending(ExitCode.PLATFORM_FAULT, f"the job could not go on: {error!r}")
        finally:
            limit.cancel()
        return self._conclude(ending)

    def stop(self) -> None:
        """End the script and report what there is; called again it does nothing."""
        if self._stopping.is_set():
            return
        elapsed = time.monotonic() - self._began
        self._over_time = elapsed >= self._document.max_runtime - _LIMIT_MARGIN
        self._stopping.set()
        self._reporter.hurry()
        self._end_script()

    def _work(self) -> Ending:
        document, folders = self._document, self._folders
        module = _recipe_module(document)
        classes = merged_classes(document.datasets)
        staged = stage(self._store, document.datasets, folders, self._halt)
        self._note(staged.summary())
        environment = script_environment(
            document,
            folders,
            channels=staged.channels,
            classes=classes,
            gpus=len(self._devices.gpus),
            inherited=self._inherited,
        )
        command = script_command(module, document.hyperparameters)
        self._note(f"starting {module}")
        log_offset = folders.log.stat().st_size
        self._script = Script(command, environment, folders.root, folders.log)
        if self._halt.is_set():
            self._script.stop()
        code = self._script.run()
        return self._script_ending(code, log_offset)

    def _script_ending(self, code: int | None, log_offset: int) -> Ending:
        if self._halt.is_set() or code is None:
            return self._stopped_ending()
        if code != 0:
            reason = failure_reason(code, self._folders.log, log_offset)
            return Ending(ExitCode.USER_CODE_FAILED, reason)
        fault = self._missing_model()
        if fault is not None:
            return Ending(ExitCode.USER_CODE_FAILED, fault)
        return Ending(ExitCode.DONE, "the training ended and its model was uploaded")

    def _stopped_ending(self) -> Ending:
        """Why the job was stopped from outside."""
        if self._over_time:
            return Ending(
                ExitCode.USER_CODE_FAILED,
                f"the run reached its max_runtime of {self._document.max_runtime} s: "
                "raise mlops:compute.max_runtime or train for fewer epochs",
            )
        if self._stopping.is_set():
            reason = "the job was asked to stop (SIGTERM) before its training had ended"
        elif self._reporter.standing is Standing.REFUSED:
            reason = f"the API refused the job's reports: {self._reporter.reason}"
        else:
            reason = self._reporter.reason
        return Ending(ExitCode.PLATFORM_FAULT, reason)

    def _missing_model(self) -> str | None:
        """Why what the script left is no model that can be registered; None when it is one."""
        for name in (ONNX_FILE, DESCRIPTION_FILE):
            if not (self._folders.model / name).is_file():
                return f"the training script ended well but left no {name} in SM_MODEL_DIR"
        try:
            self._native_file()
        except ValidationError as error:
            return f"the {DESCRIPTION_FILE} that the training script left is not valid: {error}"
        return None

    def _native_file(self) -> str | None:
        """The name of the framework's own weights, as the model's description says it."""
        content = (self._folders.model / DESCRIPTION_FILE).read_bytes()
        return ModelDescription.model_validate_json(content).native_file

    def _conclude(self, ending: Ending) -> ExitCode:
        """Upload and report; the outcome is written last, so where it is all of it is."""
        ending = Ending(ending.code, shortened(ending.reason))
        self._note(ending.reason)
        reported = self._reporter.close(self._patience())
        if self._reporter.standing is Standing.OVER:
            ending = Ending(ExitCode.PLATFORM_FAULT, shortened(self._reporter.reason))
        try:
            outcome = self._report_outputs(ending, reported)
            if self._reporter.standing is not Standing.OVER:
                content = outcome.model_dump_json(indent=2).encode()
                self._store.put_bytes(keys.outcome(self._document.output_prefix), content)
        except (StorageError, OSError) as error:
            self._note(traceback.format_exc())
            reason = shortened(f"the outputs of the job could not be stored: {error}")
            ending = Ending(ExitCode.PLATFORM_FAULT, reason)
            self._patch_ending(ending, {}, {})
        return ending.code

    def _report_outputs(self, ending: Ending, reported: bool) -> RunOutcome:
        points = read_metrics(self._folders.metrics)
        table = self._folders.root / "output" / "metrics.parquet"
        write_metrics_table(points, table)
        done = ending.code is ExitCode.DONE
        outputs = list(find_outputs(self._folders, table, self._native_file() if done else None))
        if done:
            # Checkpoints are there to go on from; a model that is finished has its weights.
            outputs = [output for output in outputs if not output.is_checkpoint]
        uploaded = upload(self._store, self._document.output_prefix, outputs)
        finite = {
            name: value for name, value in last_values(points).items() if math.isfinite(value)
        }
        assets = run_assets(self._store, self._document.api_url, outputs, uploaded)
        if self._reporter.standing is Standing.OVER:
            # A dismissed run keeps the log of what it did.
            self._reporter.patch_ended_run({"assets": assets})
        elif not (reported and self._patch_ending(ending, finite, assets)):
            self._note("the API did not take the last reports; they lie with the outputs")
        return RunOutcome(
            exit_code=ending.code,
            reason=ending.reason,
            metrics=finite,
            outputs=uploaded,
            environment=self._measured_environment,
        )

    def _patch_ending(
        self, ending: Ending, metrics: dict[str, float], assets: dict[str, Any]
    ) -> bool:
        properties: dict[str, Any] = {"mlops:exit": _exit(ending)}
        if (value := metrics.get(self._document.objective_metric)) is not None:
            properties["mlops:objective_value"] = value
        patch = {"properties": properties, "assets": assets}
        return self._reporter.patch_run(patch, self._patience())

    def _patience(self) -> float:
        return _PATIENCE_STOPPED if self._stopping.is_set() else _PATIENCE

    def _end_script(self) -> None:
        self._halt.set()
        if self._script is not None:
            self._script.stop()

    def _note(self, text: str) -> None:
        """A line of the agent's own, in the run's log and in the engine's."""
        line = f"[mlops {_now()}] {text.rstrip()}\n"
        # One unbuffered write in append mode: the script writes to the same file.
        with self._folders.log.open("ab", buffering=0) as log:
            log.write(line.encode())
        os.write(1, line.encode())


def _recipe_module(document: JobDocument) -> str:
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


def _exit(ending: Ending) -> dict[str, Any]:
    return {"code": int(ending.code), "reason": ending.reason}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
