"""What runs go through in the deployed system: one of each kind, all at once.

They are asked for together and go side by side, so that all of them take hardly longer than one;
tests look at how each ended.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from mlops.api import Api, Item
from mlops.events import RECORD_SOURCE
from mlops.jobs import JOB_DOCUMENT_ENV
from tests.aws.account import ACCOUNT, REGION
from tests.aws.cloud import Cloud, wait_for
from tests.aws.fake_engines import scripts
from tests.aws.fake_engines.faults import AwsError
from tests.aws.outputs import document_at, hand_over
from tests.integration.conftest import dataset_item, run_item

WORKSPACE = "alps"
DATA, RUNS, MODELS = "alps-training-data", "alps-training-runs", "alps-models"
Request = dict[str, Any]
TAG = "mlops:run"
PUBLISHED = {"properties": {"mlops:published": True}}
POISON = f"{WORKSPACE}.fields-v1"
_BATCH_ENDS = ("SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class Scenario:
    """What is asked for, and what becomes of its jobs: one script for each attempt."""

    engine: str = "sagemaker"
    compute: dict[str, Any] = field(default_factory=dict)
    scripts: tuple[Any, ...] = ()
    hands_over: tuple[bool, ...] = (True,)
    """Whether the job of an attempt leaves a model."""
    deliver: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list
    """What becomes of the events of its jobs."""
    later: bool = False
    """Whether a test asks for it, and not all do together."""
    throttled: int = 0
    """How often SageMaker refuses its job, because of too many requests."""


SCENARIOS = {
    "plain": Scenario(scripts=(scripts.sagemaker_success(),)),
    "batch": Scenario(engine="batch", scripts=(scripts.batch_success(),)),
    "no-image": Scenario(
        scripts=(scripts.sagemaker_failure(scripts.IMAGE_NOT_FOUND, training=None),),
        hands_over=(False,),
    ),
    "batch-memory": Scenario(
        engine="batch", scripts=((scripts.KILLED_FOR_MEMORY,),), hands_over=(False,)
    ),
    "second-attempt": Scenario(
        compute={"max_attempts": 2},
        scripts=(
            scripts.sagemaker_failure(scripts.INTERNAL_ERROR),
            scripts.sagemaker_success(),
        ),
        hands_over=(False, True),
    ),
    "spot-taken": Scenario(
        compute={"spot": True}, scripts=(scripts.sagemaker_success(interruptions=2),)
    ),
    "dismissed": Scenario(scripts=(scripts.sagemaker_endless(),), hands_over=(False,)),
    "batch-dismissed": Scenario(
        engine="batch", scripts=(scripts.batch_endless(),), hands_over=(False,)
    ),
    "twice": Scenario(
        scripts=(scripts.sagemaker_success(),),
        deliver=lambda events: [*reversed(events), *events, *events],
    ),
    "batch-second-attempt": Scenario(
        engine="batch",
        compute={"max_attempts": 2},
        scripts=(scripts.batch_exit(3), scripts.batch_success()),
        hands_over=(False, True),
    ),
    # As often as boto3 itself asks again, and once more.
    "throttled": Scenario(scripts=(scripts.sagemaker_success(),), throttled=6),
    "rotated": Scenario(later=True, scripts=(scripts.sagemaker_success(),)),
    "lost": Scenario(scripts=(scripts.sagemaker_success(),), deliver=lambda _events: []),
    "batch-lost": Scenario(
        engine="batch", scripts=(scripts.batch_exit(1),), deliver=lambda _events: []
    ),
}


class Runs:
    """The runs of all scenarios, and the jobs that the engines got for them."""

    def __init__(self, cloud: Cloud, catalogue: "FakeCatalogue") -> None:
        self.cloud = cloud
        self.catalogue = catalogue
        self.user: Api = cloud.user()
        self._attempts: dict[str, int] = {}
        self._throttled = {name: one.throttled for name, one in SCENARIOS.items()}
        cloud.fakes.sagemaker.script = self._script
        cloud.fakes.batch.script = self._script
        cloud.fakes.deliver = self._deliver
        self.user.request("POST", "/workspaces", json={"id": WORKSPACE})
        self.user.create_item(DATA, dataset_item())
        # Its event cannot be handled, and becomes a dead letter.
        catalogue.broken_for.add(POISON)
        self.user.merge_patch(DATA, "fields-v1", PUBLISHED)
        self.items: dict[str, Item] = {}
        for name, scenario in SCENARIOS.items():
            if not scenario.later:
                self.submit(name)

    def jobs(self, name: str) -> list[Any]:
        """The jobs of a scenario's run, the first attempt's first."""
        fakes = self.cloud.fakes
        found = [*fakes.sagemaker.jobs.values(), *fakes.batch.jobs.values()]
        return [job for job in found if tags_of(job.request).get(TAG) == name]

    def has_ended(self, name: str) -> bool:
        """Whether the last job of a scenario's run is over."""
        return self.jobs(name)[-1].status in ("Completed", "Failed", "Stopped", *_BATCH_ENDS)

    def ended(self, name: str, patience: float = 60.0) -> dict[str, Any]:
        """The properties of a scenario's run once it has ended."""
        ends = ("successful", "failed", "dismissed")
        properties: dict[str, Any] = self.cloud.wait_for_status(
            self.items[name], *ends, patience=patience
        )
        return properties

    def wait_for_all(self) -> None:
        """Until every scenario has ended, and what cannot be handled is a dead letter."""
        for name in self.items:
            if "dismissed" in name:
                self.dismiss(name)
            self.ended(name)
        dead = self.cloud.dead_letters
        wait_for(
            lambda: POISON in self.catalogue.entries or dead("PublishResourceFunction") or None,
            "the dead letter",
            tell=self.cloud.tell,
        )

    def models(self, name: str) -> list[Item]:
        """The models that were made of a scenario's run."""
        found = self.user.search(collections=[MODELS])
        return [model for model in found if model["properties"]["mlops:run"] == name]

    def dismiss(self, name: str) -> None:
        """Dismiss a scenario's run, once it has its job."""
        wait_for(lambda: self.jobs(name) or None, f"the job of {name}", tell=self.cloud.tell)
        if self.cloud.run(RUNS, name)["mlops:status"] != "dismissed":
            change = {"properties": {"mlops:status": "dismissed"}}
            self.user.merge_patch(RUNS, name, change)
        wait_for(
            lambda: self.cloud.run(RUNS, name).get("mlops:finished"),
            f"the end of {name}",
            tell=self.cloud.tell,
        )

    def submit(self, name: str) -> None:
        """Ask for a scenario's run."""
        scenario = SCENARIOS[name]
        compute = {"engine": scenario.engine, **scenario.compute}
        item = run_item(**{"mlops:compute": compute, "mlops:model": f"model-{name}"})
        self.items[name], _ = self.user.create_item(RUNS, {**item, "id": name})

    def _script(self, request: Request) -> Any:
        name = tags_of(request)[TAG]
        scenario = SCENARIOS[name]
        if self._throttled[name]:
            self._throttled[name] -= 1
            raise AwsError("ThrottlingException", "Rate exceeded")
        attempt = self._attempts.get(name, 0)
        self._attempts[name] = attempt + 1
        if scenario.hands_over[min(attempt, len(scenario.hands_over) - 1)]:
            store = self.cloud.store
            hand_over(store, document_at(place_of(request), store))
        return scenario.scripts[min(attempt, len(scenario.scripts) - 1)]

    def _deliver(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = []
        by_run: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            by_run.setdefault(self._run_of(event["detail"]), []).append(event)
        for name, own in by_run.items():
            kept += SCENARIOS[name].deliver(own) if name in SCENARIOS else own
        return kept

    def _run_of(self, detail: dict[str, Any]) -> str:
        fakes = self.cloud.fakes
        if "TrainingJobName" in detail:
            request = fakes.sagemaker.jobs[detail["TrainingJobName"]].request
        else:
            request = fakes.batch.jobs[detail["jobId"].partition("#")[0]].request
        return tags_of(request).get(TAG, "")


def publish(runs: Runs, name: str) -> None:
    """Publish the model of a scenario's run."""
    (model,) = runs.models(name)
    runs.user.merge_patch(MODELS, model["id"], PUBLISHED)


def event_of_run(run: str, status: str) -> dict[str, Any]:
    """An event that says of a run what became of it."""
    time = "2026-01-01T00:00:00Z"
    detail = {
        "id": f"{run}-{status}",
        "time": time,
        "workspace": WORKSPACE,
        "collection": RUNS,
        "item": run,
        "attempt": 1,
        "href": "https://example.com/",
    }
    return {
        "version": "0",
        "id": detail["id"],
        "source": RECORD_SOURCE,
        "detail-type": f"run.{status}",
        "time": time,
        "resources": [],
        "detail": detail,
    }


def round_trip(user: Api, content: bytes) -> bytes:
    """Upload a file of a dataset and read it back, each through a URL that the API signs."""
    digest = hashlib.sha256(content).hexdigest()
    wanted = {"files": [{"sha256": digest, "size": len(content)}]}
    answer = user.request("POST", f"/workspaces/{WORKSPACE}/uploads", json=wanted).json()
    for missing in answer["missing"]:
        httpx.put(missing["url"], content=content).raise_for_status()
    (file,) = answer["files"]
    redirect = user.request("GET", f"/assets/{file['key']}", follow_redirects=False)
    return httpx.get(redirect.headers["location"]).raise_for_status().content


def rotate_secret(cloud: Cloud) -> tuple[str, str]:
    """Have Secrets Manager rotate the secret of the tokens; the previous one and the new."""
    client = cloud.localstack.client("secretsmanager")
    secret = cloud.stack.resources["TokenSecret"]
    # LocalStack's RotationSchedule forgets the function.
    function = cloud.stack.resources["RotateTokenSecretFunction"]
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    client.rotate_secret(SecretId=secret, RotationLambdaARN=arn)
    previous, new = (
        json.loads(client.get_secret_value(SecretId=secret, VersionStage=stage)["SecretString"])
        for stage in ("AWSPREVIOUS", "AWSCURRENT")
    )
    return str(previous["secret"]), str(new["secret"])


def tags_of(request: Request) -> dict[str, str]:
    """The tags of a job, as either engine spells them."""
    if "tags" in request:
        return dict(request["tags"])
    return {tag["Key"]: tag["Value"] for tag in request["Tags"]}


def place_of(request: Request) -> str:
    """Where the job's document lies."""
    if "Environment" in request:
        return str(request["Environment"][JOB_DOCUMENT_ENV])
    variables = request["containerOverrides"]["environment"]
    return next(str(one["value"]) for one in variables if one["name"] == JOB_DOCUMENT_ENV)


class FakeCatalogue:
    """A STAC API with transactions, as much of it as a publication needs."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.broken_for: set[str] = set()
        """Ids of entries that it cannot take now."""
        catalogue = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                entry = catalogue.entries.get(self.path.rpartition("/")[2])
                self._answer(404 if entry is None else 200, entry)

            def do_POST(self) -> None:
                entry = self._entry()
                if entry["id"] in catalogue.broken_for:
                    self._answer(500, {"description": "the catalogue's disk is full"})
                    return
                taken = entry["id"] in catalogue.entries
                catalogue.entries.setdefault(entry["id"], entry)
                self._answer(409 if taken else 201, entry)

            def do_PUT(self) -> None:
                entry = self._entry()
                catalogue.entries[entry["id"]] = entry
                self._answer(200, entry)

            def _entry(self) -> dict[str, Any]:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                return dict(json.loads(body))

            def _answer(self, status: int, entry: Any) -> None:
                body = json.dumps(entry).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeCatalogue":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
