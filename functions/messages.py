"""From what a queue delivers to typed messages, and back to which of them failed."""

from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from functions.services import Services, Settings, services_from
from mlops import request_ids
from mlops.events import BusEvent, Function

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
Body = Callable[[BusEvent, Services, Logger], None]


def queue_handler(
    function: Function,
    body: Body,
    services: Services,
    before: Callable[[], None] | None = None,
) -> Handler:
    """A handler that gives each message of a batch to ``body``, after one call of ``before``.

    When that raises, the whole batch is delivered again. Else it answers which messages failed
    (``batchItemFailures``), so that only they are delivered again. Safe to call from several
    threads.
    """
    logger = Logger(service=function.value)

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        if before is not None:
            before()
        # A processor keeps the state of its batch: one for each call.
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        answer = process_partial_response(
            event=event,
            record_handler=lambda record: _handle(record, body, services, logger),
            processor=processor,
            context=context,
        )
        return dict(answer)

    return handle


def from_environment(build: Callable[[Services], Handler]) -> Callable[[], Handler]:
    """Makes the handler once, from the settings in the environment, when it is first needed."""

    @cache
    def handler() -> Handler:
        # The environment gives what the signature demands.
        return build(services_from(Settings()))  # type: ignore[call-arg]

    return handler


def _handle(record: SQSRecord, body: Body, services: Services, logger: Logger) -> None:
    try:
        event = BusEvent.from_json(record.body)
        request_id = event.detail.get("request_id")
        # Kept for this thread only: several may log through the same logger.
        logger.thread_safe_append_keys(request_id=request_id)
        with request_ids.bound(request_id):
            body(event, services, logger)
    except Exception:
        logger.exception("message failed", extra={"message_id": record.message_id})
        raise
    finally:
        logger.thread_safe_remove_keys(["request_id"])
