"""URLs of the STAC extensions that the system's items name."""

STAC_VERSION = "1.1.0"
_PUBLISHED = "https://stac-extensions.github.io/{name}/v{version}/schema.json"


def published(name: str, version: str) -> str:
    """The schema URL of a published STAC extension."""
    return _PUBLISHED.format(name=name, version=version)


MLM = published("mlm", "1.5.2")
ML_MODEL = published("ml-model", "1.0.0")
VERSION = published("version", "1.2.0")
FILE = published("file", "2.1.0")
PROCESSING = published("processing", "1.2.0")
CLASSIFICATION = published("classification", "1.1.0")
ML_AOI = published("ml-aoi", "0.2.0")
STORAGE = published("storage", "2.0.0")

# Our own extension: the API serves its schema under this path; an item names it by this URL.
MLOPS_SCHEMA_PATH = "/schemas/mlops/v1.0.0/schema.json"
MLOPS = "https://stac-mlops.github.io/mlops/v1.0.0/schema.json"
