"""What checkov may find is listed with its reason, and nothing is listed that it does not find."""

from infra.aws.security_lint import Allowed, Finding, complaints, read_allowed

QUEUES = Allowed("CKV_AWS_27", ("template:*Queue",), "because")


def test_a_finding_that_is_listed() -> None:
    assert complaints([Finding("CKV_AWS_27", "template:LaunchRunQueue")], [QUEUES]) == []


def test_a_finding_that_is_not_listed() -> None:
    found = [
        Finding("CKV_AWS_27", "template:LaunchRunQueue"),
        Finding("CKV_AWS_27", "network:OtherQueue"),
        Finding("CKV_AWS_18", "template:LaunchRunQueue"),
    ]
    wrong = complaints(found, [QUEUES])
    assert [line.partition(":  ")[0].split(" ")[0] for line in wrong] == [
        "template:LaunchRunQueue:",
        "network:OtherQueue:",
    ]


def test_what_is_listed_and_not_found() -> None:
    (wrong,) = complaints([], [QUEUES])
    assert "CKV_AWS_27 does not fail on template:*Queue any more" in wrong


def test_each_has_a_reason() -> None:
    allowed = read_allowed()
    assert len({one.check for one in allowed}) == len(allowed)
    assert all(len(one.reason) > 20 and one.resources for one in allowed)
