"""LocalStack's CloudWatch metrics of queues, without those that nobody looks at.

For each message that is sent, received or deleted, LocalStack's SQS calls its CloudWatch, and that
takes five times as long as the message itself. Alarms look at how many messages a queue has, which
is reported by the clock (`SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL`); LocalStack's own switch turns
off both. Runs in LocalStack's process, where `process_executor` calls it.
"""

from typing import Any

from localstack.services.sqs.provider import CloudwatchDispatcher


def leave_out_metrics_of_calls() -> None:
    """From now on, calls of SQS are not reported to CloudWatch."""

    def dispatch_sqs_metric(*_: Any, **__: Any) -> None:
        """Nothing."""

    CloudwatchDispatcher.dispatch_sqs_metric = dispatch_sqs_metric
