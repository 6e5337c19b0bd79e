"""docs/engines.md says of each status and reason what the code says."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mlops.engines import batch_status, sagemaker_status
from mlops.engines.endings import Ending
from mlops.engines.exit_reasons import exit_sentence
from mlops.jobs import ExitCode

PAGE = Path(__file__).parents[3] / "docs" / "engines.md"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def retried(retryable: bool) -> str:
    return "yes" if retryable else ""


def endings(table: Iterable[Ending]) -> Iterator[str]:
    for one in table:
        pattern = one.pattern.replace("|", "\\|")
        yield row(one.cause, f"`{pattern}`", one.phase.value, one.sentence, retried(one.retryable))


def rows() -> Iterator[str]:
    for status, (phase, sentence) in sagemaker_status.SECONDARY.items():
        again = retried(status in sagemaker_status.RETRYABLE_SECONDARY)
        yield row(f"`{status}`", phase.value, sentence, again)
    yield from endings(sagemaker_status.FAILURES)
    for status, (phase, sentence) in batch_status.STATUSES.items():
        yield row(f"`{status}`", phase.value, sentence)
    yield from endings(batch_status.BLOCKED)
    yield from endings(batch_status.FAILURES)
    for code in ExitCode:
        again = retried(code is ExitCode.PLATFORM_FAULT)
        yield row(str(int(code)), exit_sentence(code) or "The job has succeeded.", again)


@pytest.mark.parametrize("wanted", list(rows()))
def test_the_page_has_the_row(wanted: str) -> None:
    assert wanted in PAGE.read_text().splitlines()


def test_every_status_of_the_api_is_known() -> None:
    from botocore.loaders import Loader

    loader = Loader()
    sagemaker = loader.load_service_model("sagemaker", "service-2")["shapes"]
    batch = loader.load_service_model("batch", "service-2")["shapes"]
    assert set(sagemaker["SecondaryStatus"]["enum"]) == set(sagemaker_status.SECONDARY)
    assert set(sagemaker["TrainingJobStatus"]["enum"]) == set(sagemaker_status.PRIMARY)
    assert set(batch["JobStatus"]["enum"]) == set(batch_status.STATUSES)
