"""Why a local job ended, in sentences that a person can act on."""

import signal
from typing import Any

from mlops.engines import Phase
from mlops.jobs import ExitCode

_BY_CODE: dict[int, str] = {
    ExitCode.USER_CODE_FAILED: "The training code failed (exit code 1); the end of its log says "
    "where.",
    ExitCode.BAD_INPUT: "The job document or the data are not as they should be (exit code 2); "
    "the log names what to correct.",
    ExitCode.PLATFORM_FAULT: "The platform failed, not the training code (exit code 3); the run "
    "may be tried again.",
}

_BY_SIGNAL = {
    signal.SIGKILL: "often the machine ran out of memory: take a smaller batch, fewer samples or "
    "a larger machine",
    signal.SIGSEGV: "native code crashed: look at the log, and at the versions of the framework "
    "and its drivers",
    signal.SIGBUS: "often the disk or the shared memory is full: free some space",
    signal.SIGXCPU: "it used more processor time than this machine allows it",
    signal.SIGTERM: "something outside asked it to end",
}


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
    if code == ExitCode.DONE:
        return Phase.SUCCEEDED, None
    unknown = f"The job ended with exit code {code}; the log says why."
    return Phase.FAILED, _BY_CODE.get(code, unknown)


def _killed(number: int, peak_rss: int | None) -> str:
    try:
        name, meaning = signal.Signals(number).name, _BY_SIGNAL.get(signal.Signals(number))
    except ValueError:
        name, meaning = "unknown", None
    used = f" It had used up to {peak_rss / 2**20:,.0f} MB of memory." if peak_rss else ""
    tail = f"; {meaning}." if meaning else "."
    return f"The job was killed by signal {number} ({name}){tail}{used}"
