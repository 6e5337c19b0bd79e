"""The training job: ``python -m training.job``.

``MLOPS_JOB`` names the job document (a path or an ``s3://`` URL). The token of the run is in
``MLOPS_RUN_TOKEN``, or in the object ``token`` beside the document. ``MLOPS_WORK_DIR`` is the
folder to work in: by default SageMaker's ``/opt/ml`` where SageMaker runs the job, else ``work``
beside the document, or a temporary folder. Exit codes are those of :class:`mlops.jobs.ExitCode`.

SageMaker starts a container with the argument ``train``; arguments mean nothing here.
"""

import os
import posixpath
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from mlops.api import Api
from mlops.jobs import JOB_DOCUMENT_ENV, RUN_TOKEN_ENV, ExitCode, JobDocument
from mlops.storage import MissingObjectError, StorageError, open_store
from training.agent import Agent
from training.companion import Companion
from training.place import Place, find_place
from training.signals import on_termination
from training.staging import BadInputError

TOKEN_FILE = "token"  # noqa: S105 - the name of a file, not its content
_DOCUMENT_LIMIT = 1 << 20
_TOKEN_LIMIT = 16 << 10
# One request of the reporter; it has its own way of trying again.
_REQUEST_SECONDS = 10.0


def load_document(place: str) -> JobDocument:
    """Read the job document at a path or ``s3://`` URL; raises :class:`BadInputError`."""
    try:
        return JobDocument.model_validate_json(_read(place, _DOCUMENT_LIMIT))
    except (OSError, StorageError) as error:
        raise BadInputError(f"the job document {place} cannot be read: {error}") from error
    except ValidationError as error:
        raise BadInputError(f"the job document {place} is not valid: {error}") from error


def load_token(place: str, environment: Mapping[str, str]) -> str | None:
    """The run's token, from the environment or from beside the job document; None without one."""
    if given := environment.get(RUN_TOKEN_ENV):
        return given
    try:
        content = _read(posixpath.join(posixpath.dirname(place), TOKEN_FILE), _TOKEN_LIMIT)
    except (FileNotFoundError, MissingObjectError):
        return None
    return content.decode("ascii").strip()


def connect(document: JobDocument, token: str | None) -> Api:
    """The API that the document names, through the door that it says."""
    auth = None
    if document.api_signed:
        from mlops.signing import SignedAuth

        auth = SignedAuth(document.api_url, None if token is None else lambda: token)
    return Api(
        document.api_url,
        # Behind an IAM door the token has a header of its own.
        None if auth is not None else token,
        patience=0,
        timeout=_REQUEST_SECONDS,
        auth=auth,
        request_id=document.request_id,
    )


def main(environment: Mapping[str, str]) -> ExitCode:
    """Run the job that the environment names."""
    place = environment.get(JOB_DOCUMENT_ENV)
    if not place:
        _say(f"{JOB_DOCUMENT_ENV} must name the job document: a path or an s3:// URL")
        return ExitCode.BAD_INPUT
    where: Place | None = None
    try:
        where = find_place(place, environment)
        where.folders.create()
        return _run(place, where, environment)
    except BadInputError as error:
        _say(str(error))
        code, reason = ExitCode.BAD_INPUT, str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine gets the code that says "not the user's doing"
        traceback.print_exc()
        code, reason = ExitCode.PLATFORM_FAULT, f"the job could not begin: {error!r}"
    if where is not None:
        where.tell_failure(reason)
    return code


def _run(place: str, where: Place, environment: Mapping[str, str]) -> ExitCode:
    document = load_document(place)
    store = open_store(document.storage_url)
    if not where.hosts.is_first:
        companion = Companion(document, where, store, environment)
        on_termination(companion.stop)
        return companion.run()
    with connect(document, load_token(place, environment)) as api:
        agent = Agent(document, where, store, api, environment)
        on_termination(agent.stop)
        return agent.run()


def _read(place: str, limit: int) -> bytes:
    parts = urlsplit(place)
    if parts.scheme != "s3":
        return Path(place).read_bytes()
    return open_store(f"s3://{parts.netloc}").get_bytes(parts.path.lstrip("/"), limit)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(os.environ))
