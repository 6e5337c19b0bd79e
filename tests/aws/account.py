"""The account and region that everything in these tests is in; as in `fake_engines`.

LocalStack takes an access key of twelve digits for the account.
"""

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ACCESS_KEY = ACCOUNT
SECRET_KEY = "test"


def credentials() -> dict[str, str]:
    """Variables that boto3 takes credentials and region from."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
