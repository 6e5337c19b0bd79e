"""The fields extension: which parts of an item a reader wants."""

from dataclasses import dataclass

from stac_api.documents import Document

_ALWAYS = frozenset({"type", "stac_version", "id", "collection"})
_DEFAULT = _ALWAYS | {
    "geometry",
    "bbox",
    "links",
    "assets",
    "properties.datetime",
    "properties.start_datetime",
    "properties.end_datetime",
}
_ROOT_FIELDS = frozenset(
    {*_ALWAYS, "stac_extensions", "geometry", "bbox", "links", "assets", "properties"}
)


@dataclass(frozen=True)
class Fields:
    """Names to include and to exclude; ``everything`` where only exclusions were said."""

    include: frozenset[str]
    exclude: frozenset[str]
    everything: bool

    def of(self, item: Document) -> Document:
        """The wanted parts of an item."""
        if self.everything:
            wanted = dict(item)
        else:
            names = self.include | _ALWAYS if self.include else _DEFAULT
            wanted = {}
            for name in names:
                _copy(item, wanted, _path(name))
        kept = [_path(name) for name in self.include]
        for path in map(_path, self.exclude):
            # A part that is wanted by name stays when the whole around it is not wanted.
            if not any(inner[: len(path)] == path for inner in kept):
                _remove(wanted, path)
        return wanted


def _path(name: str) -> list[str]:
    path = name.split(".")
    return path if path[0] in _ROOT_FIELDS else ["properties", *path]


def _copy(source: Document, target: Document, path: list[str]) -> None:
    first, *rest = path
    if first not in source:
        return
    if not rest:
        target[first] = source[first]
    elif isinstance(source[first], dict):
        inner = target.setdefault(first, {})
        if inner is not source[first]:
            _copy(source[first], inner, rest)
            if not inner:
                del target[first]


def _remove(target: Document, path: list[str]) -> None:
    first, *rest = path
    if not rest:
        target.pop(first, None)
    elif isinstance(target.get(first), dict):
        inner = dict(target[first])
        _remove(inner, rest)
        target[first] = inner
