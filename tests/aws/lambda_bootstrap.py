"""Starts AWS's runtime client; notes on request which AWS calls the function makes.

Run by `runtime_api` as a script, with the package and the client on the path. Every botocore
session gets a hook (`before-parameter-build`, which presigned URLs pass too); requests that the
function signs itself for API Gateway are noted as `execute-api`. Without LAMBDA_BOOTSTRAP_CALLS in
the environment nothing but the client runs.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()


def _note(path: str, service: str, operation: str, params: dict[str, Any]) -> None:
    plain = {k: v for k, v in params.items() if isinstance(v, str) and len(v) < 2048}
    call = {
        "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        "handler": os.environ["_HANDLER"],
        "service": service,
        "operation": operation,
        "params": plain,
    }
    line = (json.dumps(call) + "\n").encode()
    with _LOCK:
        # One write to a file opened for appending: lines of several processes do not mix.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line)
        finally:
            os.close(file)


def _observe_sessions(module: ModuleType, path: str) -> None:
    original = module.Session.__init__

    def observe(params: dict[str, Any], model: Any, **_: Any) -> None:
        _note(path, model.service_model.service_name, model.name, params)

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.register("before-parameter-build", observe)

    module.Session.__init__ = initialise  # type: ignore[attr-defined]


def _observe_signing(module: ModuleType, path: str) -> None:
    original = module.SigV4Auth.add_auth

    def add_auth(self: Any, request: Any) -> Any:
        if self._service_name == "execute-api":
            _note(path, "execute-api", "Invoke", {"Method": request.method, "Url": request.url})
        return original(self, request)

    module.SigV4Auth.add_auth = add_auth  # type: ignore[attr-defined]


_OBSERVED: dict[str, Callable[[ModuleType, str], None]] = {
    "botocore.session": _observe_sessions,
    "botocore.auth": _observe_signing,
}


class _AfterImport(importlib.abc.MetaPathFinder):
    """Observes botocore's modules when, and only if, the function imports them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _OBSERVED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _OBSERVED[name](module, self._path)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def main() -> None:
    """Run the handler that the first argument names, as ``python -m awslambdaric`` does."""
    # The folder of this script is no part of what a function sees.
    del sys.path[0]
    calls = os.environ.pop("LAMBDA_BOOTSTRAP_CALLS", None)
    if calls is not None:
        sys.meta_path.insert(0, _AfterImport(calls))
    from awslambdaric.__main__ import main as run

    run(sys.argv)


if __name__ == "__main__":
    main()
