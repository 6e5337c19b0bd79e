"""What every part of stac-mlops shares: item kinds, events, engines, object store and the SDK.

``from mlops import Client`` is the Python SDK; it is imported on first use, so that the Lambda
functions, which need only the contracts, stay light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.sdk import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from mlops.sdk import Client

        return Client
    raise AttributeError(f"module 'mlops' has no attribute {name!r}")
