"""What an exit code or a signal says of a job, in sentences that a person can act on."""

import signal

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


def exit_sentence(code: int) -> str | None:
    """Why a job ended with ``code``; None for a job that did what it was to do.

    Shells and containers give 128 and the signal's number for a process that a signal ended.
    """
    if code == ExitCode.DONE:
        return None
    if 128 < code < 128 + signal.NSIG:
        return signal_sentence(code - 128)
    return _BY_CODE.get(code, f"The job ended with exit code {code}; the log says why.")


def signal_sentence(number: int) -> str:
    """Why a job ended that a signal ended."""
    try:
        name, meaning = signal.Signals(number).name, _BY_SIGNAL.get(signal.Signals(number))
    except ValueError:
        name, meaning = "unknown", None
    tail = f"; {meaning}." if meaning else "."
    return f"The job was killed by signal {number} ({name}){tail}"
