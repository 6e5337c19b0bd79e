"""Running the script, and the one line that says why it failed."""

import os
import sys
import threading
from pathlib import Path

import pytest

from training.script import Script, find_failure


def _script(code: str, tmp_path: Path, grace: float = 5.0) -> tuple[Script, Path]:
    log = tmp_path / "log.txt"
    return Script([sys.executable, "-uc", code], os.environ, tmp_path, log, grace), log


def _reason(code: str, tmp_path: Path) -> str:
    script, log = _script(code, tmp_path)
    ended = script.run()
    assert ended is not None
    return find_failure(ended, log, 0).reason


def test_output_and_errors_are_captured_after_what_is_there(tmp_path: Path) -> None:
    script, log = _script("import sys; print('out'); print('err', file=sys.stderr)", tmp_path)
    log.write_text("before\n")

    assert script.run() == 0
    assert log.read_text() == "before\nout\nerr\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('the loss is nan')", "exit code 1: ValueError: the loss is nan"),
        (
            "class DataError(Exception): pass\nraise DataError('two\\nlines')",
            "exit code 1: DataError: two lines",
        ),
        ("import json; json.loads('{')", "JSONDecodeError: Expecting property name"),
        ("print('a'); print('no data'); raise SystemExit(4)", "exit code 4: a | no data"),
        ("raise SystemExit(3)", "exit code 3: it wrote nothing to its log"),
    ],
)
def test_the_reason_is_one_readable_line(code: str, reason: str, tmp_path: Path) -> None:
    found = _reason(code, tmp_path)
    assert reason in found
    assert "\n" not in found


def test_the_reason_is_bounded(tmp_path: Path) -> None:
    assert len(_reason("raise ValueError('x' * 100_000)", tmp_path)) <= 500


def test_a_kill_is_named(tmp_path: Path) -> None:
    reason = _reason("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert "SIGKILL" in reason
    assert "memory" in reason
    assert "SIGSEGV" in _reason("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path)


def _run_in_thread(script: Script) -> tuple[threading.Thread, list[int | None]]:
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(script.run()))
    thread.start()
    return thread, codes


def _wait_for(log: Path, text: str) -> None:
    while not log.exists() or text not in log.read_text():
        threading.Event().wait(0.01)


def test_stop_lets_the_script_save_what_it_has(tmp_path: Path) -> None:
    script, log = _script(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\n"
        "print('ready')\n"
        "signal.pause()",
        tmp_path,
    )
    thread, codes = _run_in_thread(script)
    _wait_for(log, "ready")
    script.stop()
    script.stop()
    thread.join(30)

    assert codes == [0]
    assert "saved" in log.read_text()


def test_a_script_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script, log = _script(
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready')\n"
        "while True: signal.pause()",
        tmp_path,
        grace=0.1,
    )
    thread, codes = _run_in_thread(script)
    _wait_for(log, "ready")
    script.stop()
    thread.join(30)

    assert codes == [-9]


def test_a_script_stopped_before_its_start_is_not_started(tmp_path: Path) -> None:
    script, log = _script("print('ran')", tmp_path)
    script.stop()

    assert script.run() is None
    assert not log.exists()
