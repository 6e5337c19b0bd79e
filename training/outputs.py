"""What a job leaves behind: files uploaded with checksums, assets on the run, and the outcome."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlops.items.model_description import DESCRIPTION_FILE, ONNX_FILE
from mlops.jobs import OutputFile
from mlops.storage import ObjectStore
from mlops.storage.hrefs import asset_href
from training.checkpoints import KEPT_FOLDER
from training.contract import WorkFolders
from training.metrics_file import Point
from training.spool import parse_lines

PARQUET = "application/vnd.apache.parquet"
ONNX = "application/octet-stream; framework=onnx"
_TYPES = {
    ".onnx": ONNX,
    ".pt": "application/octet-stream; framework=pytorch",
    ".json": "application/json",
    ".parquet": PARQUET,
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".tif": "image/tiff; application=geotiff",
}
METRICS_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("step", pa.int64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Output:
    """A file to upload: its asset key, its name below the output prefix, and how it is shown."""

    key: str
    path: Path
    name: str
    title: str
    roles: tuple[str, ...]
    is_checkpoint: bool = False

    @property
    def media_type(self) -> str:
        """By the file's ending."""
        return _TYPES.get(self.path.suffix.lower(), "application/octet-stream")


def read_metrics(path: Path, earlier: int = 0) -> list[Point]:
    """Every metric that a script wrote, in its order; none where there is no file.

    The first ``earlier`` bytes are of containers that were interrupted: what was trained again
    since counts once, as it came last.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    before, since = parse_lines(content[:earlier])[0], parse_lines(content[earlier:])[0]
    again = {(point.name, point.step) for point in since}
    return [point for point in before if (point.name, point.step) not in again] + since


def last_values(points: list[Point]) -> dict[str, float]:
    """Each metric's last value."""
    return {point.name: point.value for point in points}


def write_metrics_table(points: list[Point], path: Path) -> None:
    """The whole history as Parquet: ``name``, ``step``, ``time`` (UTC), ``value`` (float64)."""
    columns = {name: [getattr(point, name) for point in points] for name in METRICS_SCHEMA.names}
    pq.write_table(pa.table(columns, schema=METRICS_SCHEMA), path)


def find_outputs(folders: WorkFolders, log: Path, native: str | None) -> Iterator[Output]:
    """All that a script left and the agent made of it.

    ``log`` is the whole log; ``native`` names the framework's own weights among the files of the
    model's folder.
    """
    table = folders.metrics_table
    yield Output("log", log, "log.txt", "Log of the training job", ("log",))
    yield Output("metrics", table, "metrics.parquet", "Metric history", ("metrics",))
    known = {
        ONNX_FILE: ("model", "ONNX model", ("mlm:model", "mlm:weights", "data")),
        DESCRIPTION_FILE: ("model_description", "Description of the model", ("metadata",)),
    }
    if native is not None:
        known[native] = ("native", "Weights of the framework", ("mlm:weights", "data"))
    taken = {"log", "metrics", *(key for key, _, _ in known.values())}
    for place, folder in (
        ("model", folders.model),
        ("output", folders.output_data),
        ("checkpoints", folders.checkpoints),
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if place == "checkpoints" and name.startswith(f"{KEPT_FOLDER}/"):
                continue
            entry = known.get(name) if place == "model" else None
            key, title, roles = entry or (_free_key(place, name, taken), name, ("data",))
            yield Output(key, path, f"{place}/{name}", title, roles, place == "checkpoints")


def upload(store: ObjectStore, prefix: str, outputs: list[Output]) -> dict[str, OutputFile]:
    """Store every output below ``prefix``; what was stored, by asset key."""
    uploaded = {}
    for output in outputs:
        stored = store.put_file(f"{prefix}{output.name}", output.path)
        uploaded[output.key] = OutputFile(
            key=stored.key,
            size=stored.size,
            sha256=stored.sha256,
            media_type=output.media_type,
            title=output.title,
        )
    return uploaded


def run_assets(
    store: ObjectStore, api_url: str, outputs: list[Output], uploaded: dict[str, OutputFile]
) -> dict[str, dict[str, Any]]:
    """The assets of the run's item, one an uploaded output."""
    return {
        output.key: {
            "href": asset_href(store, api_url, uploaded[output.key].key),
            "type": output.media_type,
            "title": output.title,
            "roles": list(output.roles),
            "file:size": uploaded[output.key].size,
            "file:checksum": f"1220{uploaded[output.key].sha256}",
        }
        for output in outputs
    }


def _free_key(place: str, name: str, taken: set[str]) -> str:
    """An asset key for a file: its name without the ending, numbered when that is taken."""
    if place == "checkpoints":
        stem = "checkpoint"
    else:
        stem = re.sub(r"[^a-z0-9]+", "-", name.rsplit(".", 1)[0].lower()).strip("-") or "file"
    key, number = stem, 2
    while key in taken:
        key, number = f"{stem}-{number}", number + 1
    taken.add(key)
    return key
