"""AWS's services as moto serves them over HTTP, for clients that are made from the environment."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"


@dataclass(frozen=True)
class Aws:
    """An empty account."""

    url: str

    def client(self, service: str) -> Any:
        """A boto3 client of one of its services."""
        return boto3.client(service)

    def queue(self, name: str) -> str:
        """The URL of a new queue."""
        return str(self.client("sqs").create_queue(QueueName=name)["QueueUrl"])

    def messages(self, queue_url: str) -> list[dict[str, Any]]:
        """Takes what can be received from a queue now, as JSON."""
        sqs, bodies = self.client("sqs"), []
        while found := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            for message in found:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def secret(self, name: str, **fields: str) -> str:
        """The ARN of a new secret."""
        made = self.client("secretsmanager").create_secret(
            Name=name, SecretString=json.dumps(fields)
        )
        return str(made["ARN"])


@contextmanager
def aws_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose services the environment names while the block runs."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }.items():
            monkeypatch.setenv(name, value)
        # What an earlier server of this process was told is forgotten.
        httpx.post(f"{url}/moto-api/reset").raise_for_status()
        # boto3's own session keeps the clients' endpoints, once it is made.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        yield Aws(url)
    finally:
        server.stop()
