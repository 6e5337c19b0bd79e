"""Discovery catalogues that published models and datasets are registered in: their settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")]


class CatalogueAuth(BaseModel):
    """How a catalogue knows us. What is secret lies in AWS Secrets Manager, as a JSON object.

    | kind | fields of the secret |
    | --- | --- |
    | ``bearer`` | ``token`` |
    | ``basic`` | ``username``, ``password`` |
    | ``client_credentials`` (OAuth) | ``token_url``, ``client_id``, ``client_secret``, ``scope`` |
    | ``sigv4`` (API Gateway with IAM) | no secret: the function's own role |
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none", "bearer", "basic", "client_credentials", "sigv4"] = "none"
    secret_arn: str | None = None
    region: str | None = None
    """Region to sign for with ``sigv4``, where it is not in the URL."""

    @model_validator(mode="after")
    def _has_its_secret(self) -> "CatalogueAuth":
        needs = self.kind in ("bearer", "basic", "client_credentials")
        if needs != (self.secret_arn is not None):
            raise ValueError(
                f"{self.kind} needs a secret_arn" if needs else f"{self.kind} takes no secret_arn"
            )
        return self


class Catalogue(BaseModel):
    """A catalogue: ``stac`` is a STAC API with its transaction extension, ``records`` an OGC API
    Records with its transactions, such as pycsw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    kind: Literal["stac", "records"]
    url: Url
    """Root of the API."""
    collection: str
    """The collection that entries go into; it must be there. pycsw's is ``metadata:main``."""
    kinds: list[Literal["model", "training-data"]] = ["model", "training-data"]
    """What is registered there."""
    workspaces: list[str] | None = None
    """Workspaces whose publications are registered there; all when left out."""
    auth: CatalogueAuth = Field(default_factory=CatalogueAuth)

    def takes(self, workspace: str, kind: str) -> bool:
        """Whether a publication is registered here."""
        return kind in self.kinds and (self.workspaces is None or workspace in self.workspaces)
