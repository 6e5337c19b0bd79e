"""The agent: stages the data, runs the training script, reports, and uploads what it made."""

import math
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mlops.api import Api
from mlops.items.model_description import DESCRIPTION_FILE, ONNX_FILE, ModelDescription
from mlops.items.status import Status
from mlops.jobs import ExitCode, JobDocument, RunOutcome
from mlops.storage import ObjectStore, keys
from training.checkpoints import KeptFile
from training.environment import describe_environment, find_devices
from training.outputs import (
    find_outputs,
    last_values,
    read_metrics,
    run_assets,
    upload,
    write_metrics_table,
)
from training.place import Place
from training.reporter import Reporter, Standing
from training.script import shortened
from training.spool import LogTail, MetricsSpool
from training.staging import BadInputError, StoppedError
from training.work import Ending, Notes, Work, now

# How long an ended job waits for an API that is away, and how long one that is being stopped.
_PATIENCE = 900.0
_PATIENCE_STOPPED = 5.0
# An engine ends a job at the same time limit: which of the two was first makes no difference.
_LIMIT_MARGIN = 2.0


class Agent:
    """One job. :meth:`run` does all of it; :meth:`stop` ends it early, from any thread."""

    def __init__(
        self,
        document: JobDocument,
        place: Place,
        store: ObjectStore,
        api: Api,
        environment: Mapping[str, str],
    ) -> None:
        self._document, self._place, self._store = document, place, store
        self._folders = place.folders
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._over_time = False
        self._notes = Notes(place)
        self._note = self._notes.write
        devices = find_devices()
        self._measured_environment = describe_environment(document.framework, devices)
        self._work = Work(document, place, store, environment, devices, self._note)
        self._kept: tuple[KeptFile, KeptFile] | None = None
        self._reporter = Reporter(
            api,
            document,
            spool=MetricsSpool(self._folders.metrics, document.attempt),
            log=LogTail(self._folders.log),
            running={
                "mlops:status": Status.RUNNING,
                "mlops:started": now(),
                "mlops:environment": self._measured_environment,
                # What a container said whose place was taken away.
                "mlops:exit": None,
            },
            note=self._note,
            on_end=self._work.halt,
        )

    def run(self) -> ExitCode:
        """Do the job; what happened is reported before the exit code is given."""
        self._reporter.start()
        limit = threading.Timer(self._document.max_runtime, self.stop)
        limit.daemon = True
        limit.start()
        try:
            self._work.checkpoints.restore(self._work.stopping)
            self._kept = self._work.checkpoints.keep(self._document.attempt)
            ending = self._script_ending(self._work.run())
        except BadInputError as error:
            ending = Ending(ExitCode.BAD_INPUT, str(error))
        except StoppedError:
            ending = self._stopped_ending()
        except Exception as error:  # noqa: BLE001 - no fault of the platform ends without a report
            self._note(traceback.format_exc())
            ending = Ending(ExitCode.PLATFORM_FAULT, f"the job could not go on: {error!r}")
        finally:
            limit.cancel()
        ending = self._conclude(ending)
        if ending.code is not ExitCode.DONE:
            self._place.tell_failure(ending.reason)
        self._notes.close()
        return ending.code

    def stop(self) -> None:
        """End the script and report what there is; called again it does nothing."""
        if self._stopping.is_set():
            return
        elapsed = time.monotonic() - self._began
        self._over_time = elapsed >= self._document.max_runtime - _LIMIT_MARGIN
        self._stopping.set()
        self._reporter.hurry()
        self._work.halt()

    def _script_ending(self, code: int | None) -> Ending:
        if self._work.stopping.is_set() or code is None:
            return self._stopped_ending()
        if code != 0:
            return self._work.ending(code)
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

    def _conclude(self, ending: Ending) -> Ending:
        """Upload and report; the outcome is written last, so where it is all of it is."""
        ending = Ending(ending.code, shortened(ending.reason))
        self._note(ending.reason)
        reported = self._reporter.close(self._patience())
        if self._reporter.standing is Standing.OVER:
            ending = Ending(ExitCode.PLATFORM_FAULT, shortened(self._reporter.reason))
        try:
            self._work.checkpoints.close()
            outcome = self._report_outputs(ending, reported)
            if self._reporter.standing is not Standing.OVER:
                content = outcome.model_dump_json(indent=2).encode()
                self._store.put_bytes(keys.outcome(self._document.output_prefix), content)
        except Exception as error:  # noqa: BLE001 - a store has many ways to fail; each is told
            self._note(traceback.format_exc())
            reason = shortened(f"the outputs of the job could not be stored: {error}")
            ending = Ending(ExitCode.PLATFORM_FAULT, reason)
            self._patch_ending(ending, {}, {})
        self._forget_checkpoints(ending)
        return ending

    def _forget_checkpoints(self, ending: Ending) -> None:
        # What has failed for good is not tried again; its checkpoints lie with its outputs.
        if ending.code is ExitCode.PLATFORM_FAULT:
            return
        try:
            self._work.checkpoints.forget()
        except Exception as error:  # noqa: BLE001 - what is left over harms nothing
            self._note(f"the run's checkpoints could not be removed: {error}")

    def _report_outputs(self, ending: Ending, reported: bool) -> RunOutcome:
        points, log = read_metrics(self._folders.metrics), self._folders.log
        if self._kept is not None:
            metrics, log = self._kept[0], self._kept[1].path
            points = read_metrics(metrics.path, metrics.earlier)
        write_metrics_table(points, self._folders.metrics_table)
        done = ending.code is ExitCode.DONE
        outputs = list(find_outputs(self._folders, log, self._native_file() if done else None))
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


def _exit(ending: Ending) -> dict[str, Any]:
    return {"code": int(ending.code), "reason": ending.reason}
