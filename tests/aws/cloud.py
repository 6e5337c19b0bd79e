"""The whole system as the template describes it, on this machine.

LocalStack has what it can have of the stack, with its functions run by AWS's runtime client; the
fakes are SageMaker and Batch; `HttpApi` is API Gateway before the API's function; the database is
the tests' own PostgreSQL.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mlops.api import Api, Item
from mlops.storage import ObjectStore
from mlops.storage.s3 import S3Store
from tests.aws import custom_resource
from tests.aws.account import ACCOUNT, REGION, credentials
from tests.aws.cloudformation import Template, read_template
from tests.aws.deployment import PARAMETERS, Surroundings, for_localstack, nested_for_localstack
from tests.aws.emulator import REPOSITORY, LocalStack
from tests.aws.fake_engines import FakeEngines
from tests.aws.fake_engines.clock import RunningClock
from tests.aws.http_api import AUDIENCE, ISSUER, HttpApi, user_token
from tests.aws.lambda_process import LambdaProcess
from tests.aws.packages import Packages
from tests.aws.scheduler import Scheduler
from tests.aws.stacks import Stack, deploy, upload

STACK = "mlops-test"
PATIENCE = 60.0
Found = TypeVar("Found")


@dataclass
class Cloud:
    """A deployed system and what is needed to use and to watch it."""

    localstack: LocalStack
    stack: Stack
    template: Template
    packages: Packages
    fakes: FakeEngines
    http_api: HttpApi
    database_url: str
    scheduler: Scheduler

    def user(self, name: str = "ada") -> Api:
        """A client with a person's token."""
        return Api(self.http_api.url, user_token(name), patience=0)

    @property
    def store(self) -> ObjectStore:
        """The stack's bucket."""
        url = f"s3://{self.stack.resources['StorageBucket']}"
        return S3Store(url, client=self.localstack.client("s3"))

    def environment(self, function: str) -> dict[str, str]:
        """The variables that CloudFormation gave a function, and where LocalStack is."""
        configuration = self.localstack.client("lambda").get_function_configuration(
            FunctionName=self.stack.resources[function]
        )
        variables = dict(configuration["Environment"]["Variables"])
        return {**variables, **credentials(), "AWS_ENDPOINT_URL": self.localstack.url}

    def process(
        self, function: str, *, snap_start: bool = False, **variables: str
    ) -> LambdaProcess:
        """An execution environment of a function of the stack, not started; not LocalStack's."""
        package = self.packages.function(self.template, function)
        return LambdaProcess(
            replace(package, snap_start=snap_start),
            {**self.environment(function), **variables},
            calls=self.localstack.calls,
        )

    def log_of(self, function: str) -> str:
        """What a function wrote, over all its execution environments."""
        return self.localstack.log_of(self.stack.resources[function])

    def dead_letters(self, function: str) -> list[dict[str, Any]]:
        """The messages in the dead-letter queue of a function; they stay there."""
        name = function.removesuffix("Function") + "DeadLetters"
        received = self.localstack.client("sqs").receive_message(
            QueueUrl=self.stack.resources[name],
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            MessageSystemAttributeNames=["All"],
        )
        return list(received.get("Messages", []))

    def send(self, queue: str, body: dict[str, Any] | str) -> None:
        """Put a message into a queue of the stack."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.localstack.client("sqs").send_message(
            QueueUrl=self.stack.resources[queue], MessageBody=text
        )

    def run(self, collection: str, identity: str) -> dict[str, Any]:
        """A run's properties."""
        properties: dict[str, Any] = self.user().get_item(collection, identity).item["properties"]
        return properties

    def wait_for_status(self, run: Item, *statuses: str, patience: float = PATIENCE) -> Any:
        """A run's properties once it has one of the statuses."""

        def look() -> dict[str, Any] | None:
            properties = self.run(run["collection"], run["id"])
            return properties if properties["mlops:status"] in statuses else None

        return wait_for(look, f"{run['id']} to be {' or '.join(statuses)}", patience, self.tell)

    def tell(self) -> str:
        """What all functions wrote, for the message of a test that failed."""
        logs = {path.stem: path.read_text()[-3000:] for path in self.localstack.logs.iterdir()}
        emulator = (self.localstack.folder / "localstack.log").read_text()[-3000:]
        told = [f"== {name}\n{text}" for name, text in sorted(logs.items())]
        return "\n".join([*told, "== API", self.http_api.logs()[-3000:], "== LocalStack", emulator])


def wait_for(
    look: Callable[[], Found | None],
    what: str,
    patience: float = PATIENCE,
    tell: Callable[[], str] = str,
) -> Found:
    """What ``look`` finds, once it finds something.

    Raises:
        AssertionError: it took too long; with what ``tell`` has to say.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {patience:g} s for {what}\n{tell()}")


@contextlib.contextmanager
def cloud(
    localstack: LocalStack,
    packages: Packages,
    database_url: str,
    catalogues: str,
    speed: float = 60.0,
) -> Iterator[Cloud]:
    """Deploy the template; jobs of the fakes go ``speed`` times as fast as the clock.

    ``catalogues`` is the template's parameter, JSON.
    """
    template = read_template(REPOSITORY / "template.yaml")
    secret = localstack.client("secretsmanager").create_secret(
        Name=f"{STACK}-database", SecretString=json.dumps({"url": database_url})
    )["ARN"]
    with contextlib.ExitStack() as stack:
        fakes = stack.enter_context(FakeEngines(RunningClock(speed), running=True))
        http_api = stack.enter_context(HttpApi(_not_yet))
        changed = for_localstack(
            template,
            Surroundings(
                packages.folders,
                http_api.url,
                fakes.url,
                fakes.url,
                _batch_settings(),
                lambda path: upload(localstack, path, _nested(path)),
            ),
        )
        deployment = deploy(localstack, STACK, changed, _parameters(secret, catalogues))
        scheduler = stack.enter_context(
            Scheduler(localstack, deployment.resources["ReconcileSchedule"])
        )
        running = Cloud(
            localstack, deployment, template, packages, fakes, http_api, database_url, scheduler
        )
        with running.process("MigrateDatabaseFunction") as migration:
            answer = custom_resource.ask(migration, "Create", Package="1")
            assert answer["Status"] == "SUCCESS", answer
        http_api.serve_with(lambda: running.process("StacApiFunction"))
        bus = localstack.client("events")
        fakes.on_event = lambda event: _put_on_default_bus(bus, event)
        fakes.batch.queues = {f"{STACK}-{name}" for name in ("gpu", "gpu-spot", "cpu")}
        fakes.batch.definitions = {f"{STACK}-pytorch"}
        yield running


def _not_yet() -> LambdaProcess:
    raise RuntimeError("the API is not deployed yet")


def _nested(path: str) -> Template:
    return nested_for_localstack(read_template(REPOSITORY / path))


def _parameters(database_secret: str, catalogues: str) -> dict[str, str]:
    return {
        **PARAMETERS,
        "DatabaseSecretArn": database_secret,
        "Catalogues": catalogues,
        "JwtIssuer": ISSUER,
        "JwtAudience": AUDIENCE,
        "PytorchImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/training:pytorch",
    }


def _batch_settings() -> str:
    arn = f"arn:aws:batch:{REGION}:{ACCOUNT}"
    queues = {
        name: f"{arn}:job-queue/{STACK}-{name.replace('_', '-')}"
        for name in ("gpu", "gpu_spot", "cpu")
    }
    definitions = {"pytorch": f"{arn}:job-definition/{STACK}-pytorch:1"}
    return json.dumps({"queues": queues, "job_definitions": definitions})


def _put_on_default_bus(bus: Any, event: dict[str, Any]) -> None:
    bus.put_events(
        Entries=[
            {
                "Source": event["source"],
                "DetailType": event["detail-type"],
                "Detail": json.dumps(event["detail"]),
                "Resources": event["resources"],
            }
        ]
    )
