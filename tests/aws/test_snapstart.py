"""SnapStart's hooks of the API, called as Lambda's runtime calls them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aws.lambda_process import RUNTIME
from tests.integration.test_aws_lambda import event

PROGRAM = """
import json, random, sys, time
import stac_api.aws_lambda as entry
import snapshot_restore_py as hooks

before, after = hooks.get_before_snapshot(), hooks.get_after_restore()
assert entry._from_environment.cache_info().currsize == 0, "importing makes nothing"
for hook, arguments, named in reversed(before):
    hook(*arguments, **named)
pool = entry._from_environment()._app.state.pool
held = pool.get_size()
described = "stac_fastapi" in sys.modules
random.seed(1)
same = random.getstate()
for hook, arguments, named in after:
    hook(*arguments, **named)
begin = time.perf_counter()
answers = [entry.handler(json.loads(line), None)["statusCode"] for line in sys.stdin]
print(json.dumps({
    "hooks": [len(before), len(after)], "held": held, "described": described,
    "answers": answers,
    "jitters alike": random.getstate() == same, "seconds": time.perf_counter() - begin,
}))
"""


@pytest.mark.usefixtures("lambda_runtime")
def test_a_snapshot_has_the_application_and_no_connection(
    database_url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(RUNTIME)]),
            "MLOPS_DATABASE_URL": database_url,
            "MLOPS_STORAGE": str(tmp_path / "store"),
            "MLOPS_TOKEN_SECRET": "x" * 32,
        },
        input="\n".join(json.dumps(event("GET", path)) for path in ("/healthz", "/workspaces")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hooks"] == [1, 1]
    assert told["held"] == 0
    assert told["described"] is True
    assert told["answers"] == [200, 200]
    assert told["jitters alike"] is False
