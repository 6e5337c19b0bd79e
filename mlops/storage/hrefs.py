"""Hrefs of stored objects: from a key to what an Item shows, and back."""

from urllib.parse import quote, unquote, urlsplit

from mlops.storage import ObjectStore, StorageError


def asset_href(store: ObjectStore, api_url: str, key: str) -> str:
    """The href of an object in an Item: the store's own URL, or the API's where it has none."""
    return store.href(key) or api_href(api_url, key)


def api_href(api_url: str, key: str) -> str:
    """The stable HTTP href that the API serves an object under."""
    return f"{api_url.rstrip('/')}/assets/{quote(key)}"


def key_of(store: ObjectStore, api_url: str, href: str) -> str:
    """The key of the object that ``href`` names; StorageError when it is not one of ours."""
    own = store.href("")
    if own is not None and href.startswith(own):
        return href[len(own) :]
    prefix = f"{urlsplit(api_url).path.rstrip('/')}/assets/"
    parts = urlsplit(href)
    if parts.scheme in ("http", "https") and parts.path.startswith(prefix):
        return unquote(parts.path[len(prefix) :])
    raise StorageError(f"{href} does not lie in this deployment's object store")
