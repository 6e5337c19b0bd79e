"""The layout of the object store: every key is made here and nowhere else.

A workspace's bytes lie under its own prefix, so one prefix can be given a quota, rights, a
lifecycle rule, or be removed. What only a job needs lies under ``_jobs/`` and ``_checkpoints/`` at
the top, where one lifecycle rule reaches that of all workspaces (no workspace's id begins with an
underscore).
"""

import re

from mlops.items.ids import InvalidIdError, check_id, check_workspace_id

JOBS = "_jobs/"
"""Documents, tokens and claims of the jobs of cloud engines; of no use after the job's end."""
CHECKPOINTS = "_checkpoints/"
"""What jobs go on from after an interruption; of no use after the run's end."""
_JOB_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9-]{0,127}\Z")


def blob(workspace: str, sha256: str) -> str:
    """A file of a dataset, by its content."""
    return f"{check_workspace_id(workspace)}/training-data/blobs/{sha256[:2]}/{sha256}"


def run_prefix(workspace: str, run: str, attempt: int) -> str:
    """Where an attempt of a run puts all it makes; ends with a slash."""
    return f"{check_workspace_id(workspace)}/training-runs/{check_id(run)}/attempt-{attempt}/"


def outcome(output_prefix: str) -> str:
    """The report of an ended job."""
    return f"{output_prefix}outcome.json"


def model_asset(workspace: str, model: str, run: str, filename: str) -> str:
    """A file of a registered model.

    By run, not by version number: the key is known before the version is taken, so that a version
    is taken in the transaction that creates the Item and numbers neither clash nor leave gaps.
    """
    return f"{check_workspace_id(workspace)}/models/{check_id(model)}/{check_id(run)}/{filename}"


def job_prefix(job: str) -> str:
    """Where all that belongs to one job of a cloud engine lies; ends with a slash."""
    if not _JOB_NAME.match(job):
        raise InvalidIdError(f"job name {job[:80]!r} is not valid: letters, digits and hyphens")
    return f"{JOBS}{job}/"


def job_document(job: str) -> str:
    """What the job is told: a :class:`~mlops.jobs.JobDocument`."""
    return f"{job_prefix(job)}job.json"


def job_token(job: str) -> str:
    """The job's token: its bytes are the token and nothing else. It lies beside the document."""
    return f"{job_prefix(job)}token"


def job_submission(job: str) -> str:
    """Who submits the job to an engine that would start it twice, and its id there."""
    return f"{job_prefix(job)}submission.json"


def checkpoints(workspace: str, run: str) -> str:
    """Where a run's job keeps what it would go on from, over all attempts; ends with a slash."""
    return f"{CHECKPOINTS}{check_workspace_id(workspace)}/{check_id(run)}/"
