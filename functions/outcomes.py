"""The report that a job leaves when it ends."""

from pydantic import ValidationError

from functions.runs import Run
from mlops.jobs import RunOutcome
from mlops.storage import MissingObjectError, ObjectStore, keys

_LIMIT = 4 << 20


class BadOutcomeError(Exception):
    """The job's report is not as it should be; the message says what is wrong."""


def read_outcome(run: Run, store: ObjectStore) -> RunOutcome | None:
    """The report of the run's present attempt; None when its job left none that can be read."""
    try:
        return require_outcome(run, store)
    except BadOutcomeError:
        return None


def require_outcome(run: Run, store: ObjectStore) -> RunOutcome:
    """The report of the run's present attempt.

    Raises:
        BadOutcomeError: there is none, it is not valid, or it names files of others.
    """
    prefix = run.output_prefix
    key = keys.outcome(prefix)
    try:
        outcome = RunOutcome.model_validate_json(store.get_bytes(key, _LIMIT))
    except MissingObjectError as error:
        raise BadOutcomeError("The job ended well but left no report (outcome.json).") from error
    except ValidationError as error:
        raise BadOutcomeError(f"The job's report (outcome.json) is not valid: {error}") from error
    for name, output in outcome.outputs.items():
        # The report is the job's word: it must not give the run what belongs to another.
        if not output.key.startswith(prefix) or ".." in output.key.split("/"):
            raise BadOutcomeError(f"The job's report names a file that is not its own: {name}.")
    return outcome
