"""Models: list, read, pull."""

from collections.abc import Callable
from pathlib import Path

from mlops.api import Api
from mlops.items.ids import collection_id
from mlops.items.kinds import Kind
from mlops.sdk.assets import AssetError, Downloaded, download_asset
from mlops.sdk.records import ModelVersion
from mlops.sdk.versions import Family, find_version, versions_of
from mlops.sdk.workspaces import Workspaces

MODEL_ASSET = "model"


class Models:
    """The models of a workspace."""

    def __init__(self, api: Api, workspaces: Workspaces) -> None:
        self._api = api
        self._workspaces = workspaces

    def list(self, *, workspace: str | None = None, model: str | None = None) -> list[ModelVersion]:
        """All versions, or those of one model: by name, then by version."""
        found = versions_of(self._api, self._family(workspace), model)
        return [ModelVersion.of(item) for item in found]

    def get(self, reference: str, *, workspace: str | None = None) -> ModelVersion:
        """A version by ``name`` (the latest), ``name:v2`` or ``name-v2``."""
        return ModelVersion.of(find_version(self._api, self._family(workspace), reference))

    def pull(
        self,
        reference: str | ModelVersion,
        path: Path | str | None = None,
        *,
        workspace: str | None = None,
        on_received: Callable[[int], None] | None = None,
    ) -> Downloaded:
        """Download a model's ONNX file through its Item's asset, checked by size and checksum.

        ``path`` is a file or an existing folder; left out, ``{name}-v{n}.onnx`` here.
        """
        model = reference
        if isinstance(model, str):
            model = self.get(model, workspace=workspace)
        asset = model.item["assets"].get(MODEL_ASSET)
        if asset is None:
            raise AssetError(f"model {model.id} has no asset {MODEL_ASSET!r}")
        target = Path(path) if path else Path(f"{model.id}.onnx")
        if target.is_dir():
            target = target / f"{model.id}.onnx"
        return download_asset(self._api, asset, target, on_received)

    def _family(self, workspace: str | None) -> Family:
        collection = collection_id(self._workspaces.resolve(workspace), Kind.MODEL)
        return Family("model", collection, "mlops:model")
