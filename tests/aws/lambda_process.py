"""One execution environment of a Lambda function, without Lambda.

AWS's own runtime interface client (`awslambdaric`) runs the function in a child process that sees
its built package, the client and the standard library, and nothing else. Standard library only:
LocalStack's virtual environment uses this module too (see `process_executor`).

What Lambda does and this does not: a limit on memory, a read-only file system, IAM.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tests.aws.account import ACCOUNT, REGION, credentials
from tests.aws.runtime_api import FunctionError, InitError, Invocation, RuntimeApi

RUNTIME = Path(__file__).resolve().parents[2] / ".lambda-runtime"
"""Where `make test` puts `awslambdaric`; on AWS it is in `/var/lang`."""
_BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")
_INIT_PATIENCE = 60.0


@dataclass(frozen=True)
class Outcome:
    """What came of an invocation. ``error`` is Lambda's error type, None when it went well."""

    id: str
    payload: bytes
    error: str | None = None
    seconds: float = 0.0
    log: str = ""

    def json(self) -> Any:
        """The answer.

        Raises:
            FunctionError: the function failed.
        """
        if self.error is not None:
            raise FunctionError(
                f"{self.error}: {self.payload.decode(errors='replace')}\n{self.log}"
            )
        return json.loads(self.payload)


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


@dataclass(frozen=True)
class Package:
    """A function as it is deployed: its unpacked code, its handler, and its limits."""

    folder: Path
    handler: str
    name: str = "function"
    timeout: float = 30.0
    """Seconds that an invocation may take."""
    memory: int = 512
    """Megabytes; told to the function, not enforced."""
    snap_start: bool = False

    @property
    def arn(self) -> str:
        """The function's name on AWS."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"


class LambdaProcess:
    """An execution environment: one process of a function, which takes one event at a time.

    ``environment`` is all that the process has in its environment beside what Lambda sets.
    ``calls`` is a file to which the AWS calls that the function makes are appended, a JSON object
    a line. A process that ended is started again at the next event, as Lambda does.
    """

    def __init__(
        self,
        package: Package,
        environment: Mapping[str, str],
        *,
        calls: Path | None = None,
        runtime: Path = RUNTIME,
        python: str = sys.executable,
    ) -> None:
        self.package = package
        self._environment = dict(environment)
        self._calls = calls
        self._runtime = runtime
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._api: RuntimeApi | None = None
        self._log: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed by stop()
        self.init_seconds = 0.0
        """From the start of the process until it asked for its first event."""

    def __enter__(self) -> "LambdaProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it asks for an event.

        Raises:
            InitError: it failed, or ended, or took too long.
        """
        api = RuntimeApi()
        begin = time.perf_counter()
        process = subprocess.Popen(
            # -S: no site-packages; -B: no byte code in the package, which is read-only on Lambda.
            [self._python, "-S", "-B", str(_BOOTSTRAP), self.package.handler],
            cwd=self.package.folder,
            env=self._variables(api.address),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._api, self._process = api, process
        threading.Thread(target=self._watch, args=(process, api), daemon=True).start()
        try:
            if self.package.snap_start:
                api.snapshot.result(_INIT_PATIENCE)
                api.restore()
            api.ready.result(_INIT_PATIENCE)
        except (InitError, TimeoutError) as error:
            self._end()
            raise InitError(f"{self.package.name}: {error}\n{self.log()}") from error
        self.init_seconds = time.perf_counter() - begin

    def invoke(self, event: Any, *, arn: str | None = None, trace: str | None = None) -> Outcome:
        """Give the function an event (bytes are taken as JSON already) and wait for its answer."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            self.start()
        assert self._api is not None
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        limit = self.package.timeout
        invocation = Invocation(payload, time.time() + limit, arn or self.package.arn)
        if trace is not None:
            invocation = replaced(invocation, trace=trace)
        before = os.fstat(self._log.fileno()).st_size
        begin = time.perf_counter()
        try:
            body, error = self._api.send(invocation).result(limit)
        except TimeoutError:
            self._end()
            message = f"{invocation.id} Task timed out after {limit:.2f} seconds"
            body, error = _error("Sandbox.Timedout", message), "Sandbox.Timedout"
        seconds = time.perf_counter() - begin
        return Outcome(invocation.id, body, error, seconds, self._log_from(before))

    def stop(self) -> None:
        """End the process."""
        self._end()
        self._log.close()

    def log(self) -> str:
        """All that the function wrote so far."""
        return self._log_from(0)

    def _log_from(self, start: int) -> str:
        size = os.fstat(self._log.fileno()).st_size
        # By position: the child appends through the same open file.
        return os.pread(self._log.fileno(), size - start, start).decode(errors="replace")

    def _watch(self, process: "subprocess.Popen[bytes]", api: RuntimeApi) -> None:
        code = process.wait()
        # Its last answer may still be on its way through the server.
        time.sleep(0.01)
        message = f"Runtime exited with status {code}"
        api.fail("Runtime.ExitError", _error("Runtime.ExitError", message))

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._api is not None:
            self._api.close()
            self._api = None

    def _variables(self, address: str) -> dict[str, str]:
        folder = str(self.package.folder)
        name = self.package.name
        variables = {
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.package.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "1",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"
            if self.package.snap_start
            else "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python3.{sys.version_info.minor}",
            **credentials(),
            "LAMBDA_TASK_ROOT": folder,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "_HANDLER": self.package.handler,
        }
        variables.update(self._environment)
        variables["AWS_LAMBDA_RUNTIME_API"] = address
        # Lambda looks in the package first, then beside its runtime.
        variables["PYTHONPATH"] = f"{folder}{os.pathsep}{self._runtime}"
        if self._calls is not None:
            variables["LAMBDA_BOOTSTRAP_CALLS"] = str(self._calls)
        return variables
