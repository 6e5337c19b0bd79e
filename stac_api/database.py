"""How the database is entered: by a URL, or with a secret whose password changes now and then."""

from typing import Protocol
from urllib.parse import quote

from mlops.aws_secrets import AwsSecret, SecretError
from stac_api.settings import DatabaseSettings


class Database(Protocol):
    """Where the database is. Both calls may ask AWS, so they belong into a thread."""

    def url(self) -> str:
        """The URL to connect with, password included: it is a secret."""
        ...

    def refresh(self) -> bool:
        """The password was refused: ask for another; False when there can be none."""
        ...


class GivenDatabase:
    """A database whose URL is in the settings."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self) -> str:
        """The URL as it was given."""
        return self._url

    def refresh(self) -> bool:
        """There is no other."""
        return False


class SecretDatabase:
    """A database whose password, or whole URL, is in AWS Secrets Manager."""

    def __init__(self, settings: DatabaseSettings, secret: AwsSecret) -> None:
        self._settings = settings
        self._secret = secret

    def url(self) -> str:
        """The URL with the password as it is now."""
        settings = self._settings
        if settings.database_host is None:
            return self._url_of_secret()
        user = quote(self._secret.field("username"), safe="")
        password = quote(self._secret.field("password"), safe="")
        place = f"{settings.database_host}:{settings.database_port}"
        name = quote(settings.database_name, safe="")
        return f"postgresql://{user}:{password}@{place}/{name}?sslmode={settings.database_sslmode}"

    def _url_of_secret(self) -> str:
        url = self._secret.field("url")
        if not url.startswith(("postgresql://", "postgres://")):
            # Checked here: the driver's message would show what it cannot read.
            raise SecretError(f"url in {self._secret.arn} must begin with postgresql://")
        return url

    def refresh(self) -> bool:
        """Ask Secrets Manager anew, unless that was done a moment ago."""
        return self._secret.refresh()


def database_of(settings: DatabaseSettings) -> Database:
    """The database that the settings name."""
    if settings.database_secret_arn is not None:
        return SecretDatabase(settings, AwsSecret(settings.database_secret_arn))
    assert settings.database_url is not None
    return GivenDatabase(settings.database_url.get_secret_value())
