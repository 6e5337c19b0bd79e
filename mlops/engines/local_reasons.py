"""Why a local job ended, in sentences that a person can act on."""

from typing import Any

from mlops.engines import Phase
from mlops.engines.exit_reasons import exit_sentence, signal_sentence
from mlops.jobs import ExitCode


def explain(ending: dict[str, Any]) -> tuple[Phase, str | None]:
    """The phase and the reason of an ended job, from what ``exit.json`` says."""
    if ending.get("lost"):
        return Phase.LOST, (
            "The job was lost: the process that ran it is gone and left no exit code. Usually "
            "the machine was restarted or the process was killed; run it again."
        )
    if ending.get("ended_by") == "stop":
        return Phase.STOPPED, "The job was stopped on request."
    if ending.get("ended_by") == "time limit":
        return Phase.FAILED, (
            f"The job reached its time limit after {ending['seconds']:.0f} seconds and was ended; "
            "raise mlops:compute.max_runtime or train less."
        )
    if ending.get("error"):
        return Phase.FAILED, f"The job could not be started: {ending['error']}"
    if ending.get("signal") is not None:
        return Phase.FAILED, _killed(int(ending["signal"]), ending.get("peak_rss"))
    return _exited(int(ending["code"]))


def _exited(code: int) -> tuple[Phase, str | None]:
    return (Phase.SUCCEEDED if code == ExitCode.DONE else Phase.FAILED), exit_sentence(code)


def _killed(number: int, peak_rss: int | None) -> str:
    used = f" It had used up to {peak_rss / 2**20:,.0f} MB of memory." if peak_rss else ""
    return f"{signal_sentence(number)}{used}"
