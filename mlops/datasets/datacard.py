"""The datacard of a version whose folder brings none: what can be told from the files."""

from collections import Counter
from pathlib import Path

from mlops.datasets.manifest import Manifest
from mlops.datasets.scan import ScannedDataset
from mlops.jobs import SPLITS


def datacard(
    dataset: str, description: str | None, scanned: ScannedDataset, manifest: Manifest
) -> str:
    """A Markdown page: splits, classes with their pixels, time and files."""
    start = min(sample.start for sample in manifest.samples)
    end = max(sample.end for sample in manifest.samples)
    counts = Counter(sample.split for sample in manifest.samples)
    lines = [
        f"# {dataset}",
        "",
        description or "No description was given.",
        "",
        f"Observed from {start:%Y-%m-%d} to {end:%Y-%m-%d}. Manifest digest `{manifest.digest}`.",
        "",
        "| split | samples |",
        "| --- | ---: |",
        *(f"| {split} | {counts[split]} |" for split in SPLITS if counts[split]),
        "",
        "| value | class | label pixels |",
        "| ---: | --- | ---: |",
        *(
            f"| {entry['value']} | {entry['name']} | {scanned.pixels.get(entry['value'], 0)} |"
            for entry in manifest.classes
        ),
        "",
        *scanned.notes,
    ]
    return "\n".join(lines).rstrip() + "\n"


def first_paragraph(path: Path | None) -> str | None:
    """The first paragraph of a Markdown file that is no heading, or None where there is none."""
    if path is None:
        return None
    paragraphs = path.read_text(encoding="utf-8", errors="replace").split("\n\n")
    prose = [text.strip() for text in paragraphs if text.strip() and text.strip()[0] not in "#|<!"]
    return " ".join(prose[0].split()) if prose else None
