"""The layout of the object store: every key is made here and nowhere else.

A workspace's bytes lie under its own prefix, so one prefix can be given a quota, rights, a
lifecycle rule, or be removed.
"""

from mlops.items.ids import check_id, check_workspace_id


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
