"""The files that a job handed over: checked, and brought to where a model's files lie for good."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from functions.model_item import ModelFile
from functions.runs import Run
from functions.services import Services
from mlops.items.ids import InvalidIdError, check_id
from mlops.items.model_description import DESCRIPTION_FILE, ONNX_FILE, ModelDescription
from mlops.jobs import OutputFile, RunOutcome
from mlops.onnx_file import OnnxFacts, OnnxFileError, compare, inspect
from mlops.storage import MissingObjectError, ObjectStore, keys
from mlops.storage.hrefs import api_href, asset_href

_KEPT = ("model", "native", "model_description", "metrics", "log")
"""Assets of the model; what else a job made stays with its run."""
_MAX_DESCRIPTION = 4 << 20


class ModelCheckError(Exception):
    """What the job handed over is no model that can be registered; the message says why."""


def check_model(
    outcome: RunOutcome, store: ObjectStore, folder: Path
) -> tuple[ModelDescription, OnnxFacts]:
    """Fetch the ONNX file and its description into ``folder`` and check one against the other.

    Raises:
        ModelCheckError: a file is missing, is not the one that was reported, or is not fit.
    """
    description_path = _fetch(outcome, "model_description", DESCRIPTION_FILE, store, folder)
    onnx_path = _fetch(outcome, "model", ONNX_FILE, store, folder)
    try:
        description = ModelDescription.model_validate_json(description_path.read_bytes())
    except ValidationError as error:
        raise ModelCheckError(f"{DESCRIPTION_FILE} does not describe a model: {error}") from error
    try:
        facts = inspect(onnx_path)
    except OnnxFileError as error:
        raise ModelCheckError(f"The ONNX file failed its check: {error}") from error
    if differences := compare(facts, description):
        raise ModelCheckError(f"The ONNX file failed its check: {'; '.join(differences)}")
    if not description.parity.passed:
        parity = description.parity
        raise ModelCheckError(
            "The ONNX file failed its check: on held-out samples it differs from the native model "
            f"by up to {parity.max_absolute_error:g}, more than {parity.tolerance:g}"
        )
    return description, facts


def publish_files(run: Run, outcome: RunOutcome, services: Services) -> dict[str, ModelFile]:
    """Copy the model's files to their permanent keys; by asset key, the ONNX file first."""
    files = {}
    for name in _KEPT:
        output = outcome.outputs.get(name)
        if output is None:
            continue
        model = str(run.properties["mlops:model"])
        key = keys.model_asset(run.workspace, model, run.id, _filename(output))
        services.store.copy(output.key, key)
        href = asset_href(services.store, services.api.url, key)
        download = api_href(services.api.url, key)
        files[name] = ModelFile(
            href=href,
            size=output.size,
            sha256=output.sha256,
            media_type=output.media_type,
            title=output.title,
            download=None if download == href else download,
        )
    return files


def storage_scheme(store: ObjectStore) -> dict[str, Any] | None:
    """How to reach the store, in the ``storage`` extension's words; None for a folder."""
    from mlops.storage.s3 import S3Store

    if not isinstance(store, S3Store):
        return None
    region = store.client.meta.region_name
    endpoint = store.client.meta.endpoint_url
    if (urlsplit(endpoint).hostname or "").endswith(".amazonaws.com"):
        return {
            "type": "aws-s3",
            "platform": "https://{bucket}.s3.{region}.amazonaws.com",
            "bucket": store.bucket,
            "region": region,
        }
    return {"type": "custom-s3", "platform": f"{endpoint}/{{bucket}}", "bucket": store.bucket}


def _fetch(outcome: RunOutcome, name: str, file: str, store: ObjectStore, folder: Path) -> Path:
    output = outcome.outputs.get(name)
    if output is None:
        raise ModelCheckError(
            f"The job ended well but handed over no {file}: write it to SM_MODEL_DIR."
        )
    path = folder / file
    if name == "model_description" and output.size > _MAX_DESCRIPTION:
        raise ModelCheckError(f"{file} is larger than {_MAX_DESCRIPTION} bytes.")
    try:
        stored = store.get_file(output.key, path)
    except MissingObjectError as error:
        raise ModelCheckError(f"{file} is not in the object store any more.") from error
    if (stored.size, stored.sha256) != (output.size, output.sha256):
        raise ModelCheckError(
            f"{file} in the object store is not the one that the job reported: "
            f"{stored.size} bytes, SHA-256 {stored.sha256}, where {output.size} bytes, "
            f"SHA-256 {output.sha256} were reported."
        )
    return path


def _filename(output: OutputFile) -> str:
    name = output.key.rsplit("/", 1)[-1]
    try:
        return check_id(name, "file name")
    except InvalidIdError as error:
        raise ModelCheckError(f"A file of the model has a name that cannot be kept: {error}") from (
            error
        )
