"""The training job: ``python -m training.job``.

``MLOPS_JOB`` names the job document (a path or an ``s3://`` URL), ``MLOPS_RUN_TOKEN`` holds the
token of the run, ``MLOPS_WORK_DIR`` the folder to work in (by default ``work`` beside the document,
or a temporary folder). Exit codes are those of :class:`mlops.jobs.ExitCode`.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from mlops.api import Api
from mlops.jobs import JOB_DOCUMENT_ENV, RUN_TOKEN_ENV, ExitCode, JobDocument
from mlops.storage import StorageError, open_store
from training.agent import Agent
from training.contract import WorkFolders
from training.signals import on_termination
from training.staging import BadInputError

WORK_DIR_ENV = "MLOPS_WORK_DIR"
_DOCUMENT_LIMIT = 1 << 20
# One request of the reporter; it has its own way of trying again.
_REQUEST_SECONDS = 10.0


def load_document(place: str) -> JobDocument:
    """Read the job document at a path or ``s3://`` URL; raises :class:`BadInputError`."""
    try:
        if urlsplit(place).scheme == "s3":
            parts = urlsplit(place)
            store = open_store(f"s3://{parts.netloc}")
            content = store.get_bytes(parts.path.lstrip("/"), _DOCUMENT_LIMIT)
        else:
            content = Path(place).read_bytes()
        return JobDocument.model_validate_json(content)
    except (OSError, StorageError) as error:
        raise BadInputError(f"the job document {place} cannot be read: {error}") from error
    except ValidationError as error:
        raise BadInputError(f"the job document {place} is not valid: {error}") from error


def work_folder(place: str, environment: Mapping[str, str]) -> Path:
    """Where the job works."""
    if chosen := environment.get(WORK_DIR_ENV):
        return Path(chosen).resolve()
    if urlsplit(place).scheme == "s3":
        return Path(tempfile.mkdtemp(prefix="mlops-job-"))
    return Path(place).resolve().parent / "work"


def main(environment: Mapping[str, str]) -> ExitCode:
    """Run the job that the environment names."""
    place = environment.get(JOB_DOCUMENT_ENV)
    if not place:
        _say(f"{JOB_DOCUMENT_ENV} must name the job document: a path or an s3:// URL")
        return ExitCode.BAD_INPUT
    try:
        document = load_document(place)
    except BadInputError as error:
        _say(str(error))
        return ExitCode.BAD_INPUT
    try:
        store = open_store(document.storage_url)
        folders = WorkFolders(work_folder(place, environment))
        folders.create()
        token = environment.get(RUN_TOKEN_ENV)
        with Api(
            document.api_url,
            token,
            patience=0,
            timeout=_REQUEST_SECONDS,
            request_id=document.request_id,
        ) as api:
            agent = Agent(document, folders, store, api, environment)
            on_termination(agent.stop)
            return agent.run()
    except Exception:  # noqa: BLE001 - whatever it is, the engine gets the code that says "not the user's doing"
        traceback.print_exc()
        return ExitCode.PLATFORM_FAULT


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(os.environ))
