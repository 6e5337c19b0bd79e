"""CloudFormation's side of a custom resource: LocalStack's open part asks no function.

Protocol: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.aws.account import ACCOUNT, REGION
from tests.aws.lambda_process import LambdaProcess

_PATIENCE = 120.0


def ask(process: LambdaProcess, request: str, **properties: Any) -> dict[str, Any]:
    """Send a request (Create, Update, Delete) to a function; what it answers to CloudFormation."""
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    event = {
        "RequestType": request,
        "ResponseURL": f"http://127.0.0.1:{server.server_address[1]}/answer?Signature=x",
        "StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/mlops/1",
        "RequestId": "1",
        "ResourceType": "Custom::DatabaseVersion",
        "LogicalResourceId": "DatabaseVersion",
        "ResourceProperties": {"ServiceToken": process.package.arn, **properties},
    }
    if request != "Create":
        event["PhysicalResourceId"] = "stac-mlops-database"
    try:
        outcome = process.invoke(event)
        assert outcome.error is None, outcome.payload
        return answers.get(timeout=_PATIENCE)
    finally:
        server.shutdown()
        server.server_close()
