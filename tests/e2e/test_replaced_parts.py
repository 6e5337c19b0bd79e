"""The embedded database and object store replaced by others, named in the environment."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.conftest import Stack, push_sample, submit

pytestmark = pytest.mark.e2e


@pytest.fixture
def s3() -> Iterator[str]:
    """An S3 service with the bucket `mlops`; its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_with_s3_and_a_database_of_ones_own(
    s3: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same main job; the model's href is in the bucket, with an alternate for browsers."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(
        Bucket="mlops", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    stack = Stack(tmp_path / "home")
    stack.settings = {"MLOPS_DATABASE_URL": database_url, "MLOPS_STORAGE": "s3://mlops/team"}
    try:
        stack.up()
        assert not (stack.home.folder / "postgres").exists()
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, "epochs=1", "max_pixels=2000")
        ended = stack.wait_for_status("test", run, "successful", "failed")
        assert ended["properties"]["mlops:status"] == "successful", ended["properties"]
        model = httpx.get(f"{stack.url}/collections/test-models/items/landcover-v1").json()
        asset = model["assets"]["model"]
        assert asset["href"].startswith("s3://mlops/team/test/models/landcover/")
        by_browser = httpx.get(asset["alternate"]["https"]["href"], follow_redirects=True)
        digest = hashlib.sha256(by_browser.content).hexdigest()
        assert asset["file:checksum"] == "1220" + digest
        stack.mlops("model", "pull", "landcover", "-w", "test", "-o", str(tmp_path / "m.onnx"))
    finally:
        stack.down()
