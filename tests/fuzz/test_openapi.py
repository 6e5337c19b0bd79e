"""What our own OpenAPI document allows, and what it does not: the server never fails, and answers
with what the document says."""

import itertools

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import SecretStr
from schemathesis.checks import CHECKS

from stac_api.app import create_app
from stac_api.settings import Settings
from tests.fuzz.conftest import Target

# Nothing is opened before the application's lifespan begins.
_APP = create_app(
    Settings(
        database_url=SecretStr("postgresql://"), storage="unused", token_secret=SecretStr("x" * 64)
    )
)
DESCRIPTION = schemathesis.openapi.from_dict(_APP.state.frame.describe())
DESCRIPTION.config.phases.coverage.enabled = False
FAILURES = [
    CHECKS.get_one(name)
    for name in ("not_a_server_error", "status_code_conformance", "content_type_conformance")
]
# What is asked for is there as often as it is not.
THERE = itertools.cycle(
    [
        {},
        {"collection_id": "imagery", "item_id": "kept", "workspace_id": "alps"},
        {},
        {"collection_id": "alps-training-runs", "item_id": "run", "workspace_id": "alps"},
    ]
)


@DESCRIPTION.parametrize()
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation(case: schemathesis.Case, target: Target) -> None:
    for name, value in next(THERE).items():
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = target.run if value == "run" else value
    answer = case.call(base_url=str(target.client.base_url))
    case.validate_response(answer, checks=FAILURES)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
