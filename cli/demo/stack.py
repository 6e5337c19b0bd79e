"""The stack that the demo runs on: the one of its home, started for the demo where it is off."""

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cli.output import console
from mlops.api import Api, UnavailableError
from mlops.sdk.endpoint import ENDPOINT_FILE, find_url

_USUAL_PORT = 8080
_STOP_SECONDS = 60.0


class StackError(Exception):
    """The stack did not start; the message holds what it said."""


@dataclass(frozen=True)
class Stack:
    """Where the stack is, and whether it was started for the demo."""

    url: str
    started: bool


def check_installed() -> None:
    """Raise ModuleNotFoundError for what the demo needs and lacks, before anything is started."""
    for module in ("uvicorn", "rasterio", "torch", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


@contextmanager
def running_stack(home: Path) -> Iterator[Stack]:
    """The stack of ``home``; one that was started here is stopped at the end."""
    if (home / ENDPOINT_FILE).is_file() and _answers(url := find_url(home=home)):
        yield Stack(url, started=False)
        return
    with _ending_on_terminate(), _child(home) as url:
        yield Stack(url, started=True)


def _answers(url: str) -> bool:
    with Api(url, patience=0.5) as api:
        try:
            api.get_json("/healthz")
        except UnavailableError:
            return False
        return True


@contextmanager
def _child(home: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cli.main", "up", "--home", str(home), "--json"]
    if not (home / ENDPOINT_FILE).is_file() and _is_taken(_USUAL_PORT):
        command += ["--port", "0"]
    home.mkdir(parents=True, exist_ok=True)
    messages = home / "demo-up.log"
    with messages.open("wb") as stderr:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops it in order.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    try:
        assert process.stdout is not None
        with console(stderr=True).status(f"Starting the stack in {home}"):
            line = process.stdout.readline()
        if not line:
            process.wait()
            raise StackError(_last_lines(messages))
        yield str(json.loads(line)["url"])
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    with console(stderr=True).status("Stopping the stack"):
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def _last_lines(messages: Path) -> str:
    text = messages.read_text(encoding="utf-8", errors="replace").strip()
    tail = "\n".join(text.splitlines()[-15:])
    return f"The stack did not start.\n{tail}\nSee also: mlops doctor --home {messages.parent}"


@contextmanager
def _ending_on_terminate() -> Iterator[None]:
    """Make SIGTERM end the demo through its clean-up, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
