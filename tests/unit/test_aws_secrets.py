"""Secrets that are kept for a while and asked for anew."""

import json

import pytest

from mlops.aws_secrets import AwsSecret, SecretError, TokenSecret
from tests.moto_server import Aws


def put(aws: Aws, arn: str, value: str) -> None:
    aws.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=value)


def test_a_value_is_believed_for_a_while(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = aws.secret("s", secret="one")
    secret = AwsSecret(arn)
    assert secret.field("secret") == "one"
    put(aws, arn, '{"secret": "two"}')
    assert secret.field("secret") == "one"
    assert not secret.refresh(), "it was asked for a moment ago"
    monkeypatch.setattr(AwsSecret, "MAX_AGE", 0.0)
    assert secret.field("secret") == "two"
    assert secret.previous() == {"secret": "one"}


def test_there_is_nothing_before_the_first_rotation(aws: Aws) -> None:
    secret = TokenSecret(AwsSecret(aws.secret("s", secret="one")))
    assert secret.accepted() == ["one"]
    assert secret.get_secret_value() == "one"


def test_the_old_value_counts_while_the_new_cannot_be_read(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arn = aws.secret("s", secret="one")
    secret = AwsSecret(arn)
    assert secret.field("secret") == "one"
    monkeypatch.setattr(AwsSecret, "MAX_AGE", 0.0)
    aws.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert secret.field("secret") == "one"
    assert "its old value is used" in caplog.text


@pytest.mark.parametrize(
    ("value", "advice"),
    [("hunter2", "is not a JSON object"), ("[1]", "is not a JSON object"), ("{}", "'secret'")],
)
def test_a_secret_of_another_form_is_not_shown(aws: Aws, value: str, advice: str) -> None:
    arn = aws.secret("s", secret="one")
    put(aws, arn, value)
    with pytest.raises(SecretError, match=advice) as caught:
        AwsSecret(arn).field("secret")
    assert "hunter2" not in str(caught.value)
    assert json.dumps(str(caught.value)).count(arn) == 1
