"""The home folder of one machine's stack: where everything lies, and what is remembered there."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.local import StartupError

DEFAULT_PORT = 8080


class Home:
    """The layout of a home folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.store = self.folder / "store"
        self.jobs = self.folder / "jobs"
        self.log = self.folder / "service.log"
        self._endpoint = self.folder / "endpoint.json"
        self._config = self.folder / "config.json"
        self._secret = self.folder / "token-secret"

    def create(self) -> None:
        """Make the folder; StartupError when that is not possible."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(
                f"the home folder {self.folder} cannot be made ({error.strerror}): "
                "choose another with --home or MLOPS_HOME."
            ) from error
        if not os.access(self.folder, os.W_OK):
            raise StartupError(
                f"the home folder {self.folder} cannot be written: choose another with --home."
            )

    @contextmanager
    def only_service(self) -> Iterator[None]:
        """Hold the home for one service; StartupError when another has it.

        The lock goes with the process, also when that is killed.
        """
        with (self.folder / "service.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                url = self.endpoint()
                where = f" at {url}" if url else ""
                raise StartupError(
                    f"the stack of {self.folder} runs already{where}. Use it, stop it first, or "
                    "give another --home."
                ) from error
            yield

    def token_secret(self) -> str:
        """The secret that signs tokens; made at the first start, readable by the owner only."""
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(self._secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return self._secret.read_text()

    def listen(self, port: int | None) -> socket.socket:
        """A socket for the API: on ``port``, or the remembered one; 0 takes any that is free.

        The port is remembered, so that jobs that run while the service is away find it again.
        """
        remembered = self._read(self._config).get("port")
        wanted = remembered if port in (None, 0) and remembered else (port or 0)
        if port is None and remembered is None:
            wanted = DEFAULT_PORT
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            try:
                listener.bind(("127.0.0.1", wanted))
            except OSError:
                if port != 0:
                    raise
                listener.bind(("127.0.0.1", 0))
        except OSError as error:
            listener.close()
            raise StartupError(
                f"port {wanted} of 127.0.0.1 cannot be used ({error.strerror}): "
                "stop what uses it, or choose another with --port."
            ) from error
        self._write(self._config, {"port": listener.getsockname()[1]})
        return listener

    def announce(self, url: str) -> None:
        """Say where the API is, for clients on this machine."""
        self._write(self._endpoint, {"url": url, "pid": os.getpid()})

    def withdraw(self) -> None:
        """The service ends."""
        self._endpoint.unlink(missing_ok=True)

    def endpoint(self) -> str | None:
        """Where the API was announced last, or None."""
        url = self._read(self._endpoint).get("url")
        return str(url) if url else None

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content))
        part.replace(path)
