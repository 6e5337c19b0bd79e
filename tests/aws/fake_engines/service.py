"""What the fakes of SageMaker and Batch have in common: calls with their checks and faults, and
jobs that go on with time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tests.aws.fake_engines.clock import Clock
from tests.aws.fake_engines.faults import Faults
from tests.aws.fake_engines.shapes import check_answer, check_request

ACCOUNT, REGION = "123456789012", "eu-central-1"

Answer = dict[str, Any]
Request = dict[str, Any]
Script = TypeVar("Script")


class Job(Protocol):
    """A job and what is still to happen to it, each with its time."""

    ahead: list[tuple[float, Any]]

    @property
    def arn(self) -> str:
        """Its name on AWS."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)


class FakeService(ABC, Generic[AnyJob, Script]):
    """A service of one account and region, whose jobs go as their scripts have it.

    A request that AWS's description of the service does not allow is refused as ``invalid``, one
    too many as ``throttled``.
    """

    service: ClassVar[str]
    invalid: ClassVar[str]
    throttled: ClassVar[str]
    event_type: ClassVar[str]
    """``detail-type`` of the event that tells of a job."""

    def __init__(self, clock: Clock, script: Script) -> None:
        self._clock = clock
        self.faults = Faults(clock)
        self.jobs: dict[str, AnyJob] = {}
        self.script: Callable[[Request], Script] = lambda _request: script
        """The script of a job, by its request."""
        self.calls: list[str] = []

    def call(self, operation: str, request: Request) -> Answer:
        """Answer an API call."""
        self.calls.append(operation)
        self.faults.before(operation, self.throttled)
        check_request(self.service, operation, request, self.invalid)
        answer = self._operations()[operation](request)
        check_answer(self.service, operation, answer)
        self.faults.after(operation)
        return answer

    def tick(self) -> Iterator[dict[str, Any]]:
        """Let happen what is due; the events that AWS would emit, in order."""
        now = self._clock.now()
        for job in list(self.jobs.values()):
            while job.ahead and job.ahead[0][0] <= now:
                due, step = job.ahead.pop(0)
                self._enter(job, step, due)
                yield {
                    "source": f"aws.{self.service}",
                    "detail-type": self.event_type,
                    "resources": [job.arn],
                    "at": due,
                    "detail": self._detail(job),
                }

    def next_due(self) -> float | None:
        """When something happens next."""
        return min((job.ahead[0][0] for job in self.jobs.values() if job.ahead), default=None)

    @abstractmethod
    def _operations(self) -> Mapping[str, Callable[[Request], Answer]]:
        """What answers each operation."""

    @abstractmethod
    def _enter(self, job: AnyJob, step: Any, time: float) -> None:
        """Let a step of a job happen."""

    @abstractmethod
    def _detail(self, job: AnyJob) -> dict[str, Any]:
        """What an event says of a job."""
