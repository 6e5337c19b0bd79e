"""LocalStack's plug-in that runs Lambda functions as child processes instead of containers.

Named to LocalStack by `localstack_plugin/pyproject.toml`; chosen with
`LAMBDA_RUNTIME_EXECUTOR=process`. Runs in LocalStack's process and virtual environment. Settings
come in its environment:

- `PROCESS_EXECUTOR_PYTHON`: the interpreter of the functions
- `PROCESS_EXECUTOR_RUNTIME`: the folder of AWS's runtime interface client
- `PROCESS_EXECUTOR_CALLS`: file for the AWS calls that functions make
- `PROCESS_EXECUTOR_LOGS`: folder for their logs, one file a function
"""

import os
from pathlib import Path
from typing import Any

from localstack import config
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from tests.aws.account import credentials
from tests.aws.lambda_process import LambdaProcess, Package
from tests.aws.queue_metrics import leave_out_metrics_of_calls
from tests.aws.runtime_api import InitError

_HOST = "127.0.0.1"


class ProcessExecutor(RuntimeExecutor):
    """One execution environment of a function version."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002
        super().__init__(id, function_version)
        self._process: LambdaProcess | None = None
        self._logs = Path(os.environ["PROCESS_EXECUTOR_LOGS"])

    def start(self, env_vars: dict[str, str]) -> None:
        """Start the function; an error of its initialization goes to who invoked it."""
        configuration = self.function_version.config
        package = Package(
            folder=Path(configuration.code.get_unzipped_code_location()),
            handler=configuration.handler,
            name=self.function_version.id.function_name,
            timeout=float(configuration.timeout),
            memory=configuration.memory_size,
        )
        # LAMBDA_TASK_ROOT and the like name places in the container that there is not.
        ours = ("LAMBDA_", "LOCALSTACK_", "_LAMBDA_")
        variables = {k: str(v) for k, v in env_vars.items() if not k.startswith(ours)}
        # Credentials of the role are random; requests to the HTTP API are checked with known ones.
        variables.pop("AWS_SESSION_TOKEN", None)
        variables |= credentials()
        calls = os.environ.get("PROCESS_EXECUTOR_CALLS")
        self._process = LambdaProcess(
            package,
            variables,
            calls=Path(calls) if calls else None,
            runtime=Path(os.environ["PROCESS_EXECUTOR_RUNTIME"]),
            python=os.environ["PROCESS_EXECUTOR_PYTHON"],
        )
        try:
            self._process.start()
        except InitError as error:
            raise StatusErrorException("The function did not start", str(error).encode()) from error
        finally:
            self._keep(self._process.log())

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Give the function an event."""
        assert self._process is not None
        outcome = self._process.invoke(
            payload["payload"].encode(),
            arn=payload["invoked-function-arn"],
            trace=payload["trace-id"],
        )
        self._keep(outcome.log)
        return InvocationResult(
            payload["invoke-id"],
            outcome.payload,
            is_error=outcome.error is not None,
            logs=outcome.log,
        )

    def _keep(self, log: str) -> None:
        name = self.function_version.id.function_name
        with (self._logs / f"{name}.log").open("a") as file:
            file.write(log)

    def get_logs(self) -> str:
        """All that the process wrote."""
        return self._process.log() if self._process is not None else ""

    def get_address(self) -> str:
        """Where the function runs."""
        return _HOST

    def get_endpoint_from_executor(self) -> str:
        """Where the function finds LocalStack."""
        return _HOST

    def get_runtime_endpoint(self) -> str:
        """LocalStack's own door for containers; processes do not use it."""
        return f"http://{_HOST}:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack the code, so that the first event need not wait for it."""
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing: LocalStack removes the code by itself."""


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """What LocalStack looks for."""

    name = "process"

    def load(self, *_: Any, **__: Any) -> type[ProcessExecutor]:
        """The executor's class."""
        leave_out_metrics_of_calls()
        return ProcessExecutor
