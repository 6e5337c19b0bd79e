"""Starts AWS's runtime client; on request it notes calls, or ends the process after one of them.

Run by `lambda_process` as a script, with the package and the client on the path.

- `LAMBDA_BOOTSTRAP_CALLS`: a file to which the AWS calls that the function makes are noted. Every
  botocore session gets a hook (`before-parameter-build`, which presigned URLs pass too); requests
  that the function signs itself for API Gateway are noted as `execute-api`.
- `LAMBDA_BOOTSTRAP_CRASH`: the process ends at once, as if its machine had gone, when so many
  calls that change something (AWS, or HTTP by httpx) were answered; with 0, before the first one.
- `LAMBDA_BOOTSTRAP_SET`: numbers that a test needs smaller than they are, such as times to wait:
  `module:NAME=1.5`, several with `;` between them.

Without them nothing but the client runs.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()
_READING = ("Get", "Head", "List", "Describe")
CRASHED = 70
"""Exit status of a process that ended on request."""


class Calls:
    """Notes calls in a file, a JSON object a line."""

    def __init__(self, path: str) -> None:
        self._path = path

    def note(self, service: str, operation: str, params: dict[str, Any]) -> None:
        """Note a call; long texts are left out."""
        plain = {k: v for k, v in params.items() if isinstance(v, str) and len(v) < 2048}
        if operation == "PutEvents":
            plain["bus"] = params["Entries"][0].get("EventBusName", "default").rpartition("/")[2]
        call = {
            "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
            "service": service,
            "operation": operation,
            "params": plain,
            "given": sorted(params),
        }
        line = (json.dumps(call) + "\n").encode()
        with _LOCK:
            # One write to a file opened for appending: lines of several processes do not mix.
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, line)
            finally:
                os.close(file)

    def observe_session(self, session: Any) -> None:
        """Note what clients of a botocore session do."""

        def built(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.note(model.service_model.service_name, model.name, params)

        session.register("before-parameter-build", built)

    def observe_signing(self, module: ModuleType) -> None:
        """Note requests that are signed for API Gateway."""
        original = module.SigV4Auth.add_auth

        def add_auth(signer: Any, request: Any) -> Any:
            if signer._service_name == "execute-api":
                self.note("execute-api", "Invoke", {"Method": request.method, "Url": request.url})
            return original(signer, request)

        module.SigV4Auth.add_auth = add_auth  # type: ignore[attr-defined]


class Crash:
    """Ends the process after a number of calls that changed something."""

    def __init__(self, after: int) -> None:
        self._left = after

    def _before(self) -> None:
        if self._left == 0:
            os._exit(CRASHED)

    def _after(self) -> None:
        with _LOCK:
            self._left -= 1
            if self._left == 0:
                os._exit(CRASHED)

    def observe_session(self, session: Any) -> None:
        """Count what clients of a botocore session do."""

        def before(model: Any, **_: Any) -> None:
            if not model.name.startswith(_READING):
                self._before()

        def after(model: Any, **_: Any) -> None:
            if not model.name.startswith(_READING):
                self._after()

        session.register("before-call", before)
        session.register("after-call", after)

    def observe_http(self, module: ModuleType) -> None:
        """Count requests of httpx."""
        original = module.HTTPTransport.handle_request

        def handle_request(transport: Any, request: Any) -> Any:
            changes = request.method not in ("GET", "HEAD", "OPTIONS")
            if changes:
                self._before()
            answer = original(transport, request)
            if changes:
                self._after()
            return answer

        module.HTTPTransport.handle_request = handle_request  # type: ignore[attr-defined]


Hook = Callable[[ModuleType], None]


def _each_session(observe: Callable[[Any], None]) -> Hook:
    def hook(module: ModuleType) -> None:
        original = module.Session.__init__

        def initialise(session: Any, *args: Any, **kwargs: Any) -> None:
            original(session, *args, **kwargs)
            observe(session)

        module.Session.__init__ = initialise  # type: ignore[attr-defined]

    return hook


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls hooks when, and only if, the function imports the modules that they are for."""

    def __init__(self, hooks: dict[str, list[Hook]]) -> None:
        self._hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._hooks:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for hook in self._hooks[name]:
                hook(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _hooks() -> dict[str, list[Hook]]:
    hooks: dict[str, list[Hook]] = {"botocore.session": [], "botocore.auth": []}
    path = os.environ.pop("LAMBDA_BOOTSTRAP_CALLS", None)
    if path is not None:
        calls = Calls(path)
        hooks["botocore.session"].append(_each_session(calls.observe_session))
        hooks["botocore.auth"].append(calls.observe_signing)
    after = os.environ.pop("LAMBDA_BOOTSTRAP_CRASH", None)
    if after is not None:
        crash = Crash(int(after))
        hooks["botocore.session"].append(_each_session(crash.observe_session))
        hooks["httpx._transports.default"] = [crash.observe_http]
    for one in filter(None, os.environ.pop("LAMBDA_BOOTSTRAP_SET", "").split(";")):
        place, _, number = one.partition("=")
        module, _, name = place.partition(":")
        hooks.setdefault(module, []).append(_sets(name, float(number)))
    return {name: listed for name, listed in hooks.items() if listed}


def _sets(name: str, number: float) -> Hook:
    def hook(module: ModuleType) -> None:
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name} to set")
        setattr(module, name, number)

    return hook


def main() -> None:
    """Run the handler that the first argument names, as ``python -m awslambdaric`` does."""
    # The folder of this script is no part of what a function sees.
    del sys.path[0]
    hooks = _hooks()
    if hooks:
        sys.meta_path.insert(0, _AfterImport(hooks))
    from awslambdaric.__main__ import main as run

    run(sys.argv)


if __name__ == "__main__":
    main()
