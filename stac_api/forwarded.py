"""The root of the API as the caller sees it, behind proxies and gateways.

``Forwarded`` (RFC 7239) and ``X-Forwarded-*`` are believed where they come from a trusted proxy
alone: anybody could send them, and a link to another host is a way to lead clients astray. A proxy
passes on untouched what it does not know, so it must set or remove every one that counts here.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"\A(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?\Z")
_PREFIX = re.compile(r"\A(?:/[A-Za-z0-9._~-]+)+\Z")
_HAS_PORT = re.compile(r":\d+\Z")
_COMMON = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Seen:
    """What a proxy says of the request that it got; None where it says nothing usable."""

    scheme: str | None = None
    host: str | None = None
    prefix: str | None = None


class TrustedProxies:
    """The addresses and networks that are believed; ``*`` stands for everybody."""

    def __init__(self, names: Iterable[str]) -> None:
        listed = list(names)
        self._everybody = "*" in listed
        self._networks = [ipaddress.ip_network(name) for name in listed if name != "*"]

    def __contains__(self, address: str | None) -> bool:
        return self._everybody or self.names(address)

    def names(self, address: str | None) -> bool:
        """Whether an address is among those that were named: ``*`` names none."""
        try:
            parsed = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        # A socket for both kinds of addresses writes those of version 4 as ::ffff:10.0.0.7.
        plain = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(plain in network for network in self._networks)


class Forwarded:
    """Middleware: gives a request the scheme, host and path prefix that its caller used."""

    def __init__(self, app: ASGIApp, trusted: Iterable[str], prefix: str) -> None:
        self._app = app
        self._trusted = TrustedProxies(trusted)
        self._prefix = prefix.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and (self._prefix or _is_passed_on(scope)):
            client = scope.get("client")
            address = client[0] if client else None
            headers = Headers(scope=scope)
            seen = read_headers(headers, self._trusted) if address in self._trusted else Seen()
            scope = _as_seen(scope, seen, self._prefix or _stage(scope))
        await self._app(scope, receive, send)


def read_headers(headers: Headers, trusted: TrustedProxies) -> Seen:
    """What the outermost trusted proxy in a row of them says."""
    # Most proxies write X-Forwarded-*, and pass on a Forwarded that their caller wrote.
    if "forwarded" in headers and not any(name in headers for name in _COMMON):
        elements = [_element(text) for text in _listed(headers, "forwarded")]
        hops = _hops([element.get("for", "") for element in elements], trusted)
        chosen = elements[-min(hops, len(elements))] if elements else {}
        scheme, host, port = chosen.get("proto"), chosen.get("host"), None
    else:
        hops = _hops(_listed(headers, "x-forwarded-for"), trusted)
        scheme, host, port = (
            _chosen(_listed(headers, f"x-forwarded-{name}"), hops)
            for name in ("proto", "host", "port")
        )
    prefix = (_chosen(_listed(headers, "x-forwarded-prefix"), hops) or "").rstrip("/")
    scheme = scheme.lower() if scheme else None
    return Seen(
        scheme if scheme in _DEFAULT_PORTS else None,
        _with_port(host or headers.get("host"), port, scheme) if host or port else None,
        prefix if _PREFIX.match(prefix) else None,
    )


def _is_passed_on(scope: Scope) -> bool:
    """Whether anything but the request itself says how it was sent: most come directly."""
    return "aws.event" in scope or any(
        name.startswith((b"x-forwarded-", b"forwarded")) for name, _ in scope["headers"]
    )


def _listed(headers: Headers, name: str) -> list[str]:
    values = ",".join(headers.getlist(name)).split(",")
    return [value.strip() for value in values if value.strip()]


def _element(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _hops(addresses: list[str], trusted: TrustedProxies) -> int:
    """How many proxies in a row are trusted, the one that we talk to included.

    Each adds the address of who talked to it at the end of the list; what stands before the first
    that is not trusted was sent by the caller. Where everybody is trusted to talk to us, the
    addresses say nothing: they may be the caller's.
    """
    hops = 1
    for address in reversed(addresses):
        bare = re.sub(r"\A\[(.*)\](?::\d+)?\Z|\A([\d.]+):\d+\Z", r"\1\2", address)
        if not trusted.names(bare):
            break
        hops += 1
    return hops


def _chosen(values: list[str], hops: int) -> str | None:
    return values[-min(hops, len(values))] if values else None


def _with_port(host: str | None, port: str | None, scheme: str | None) -> str | None:
    if host is None or not _HOST.match(host):
        return None
    wanted = port is not None and port.isdigit() and _DEFAULT_PORTS.get(scheme or "http") != port
    return f"{host}:{port}" if wanted and not _HAS_PORT.search(host) else host


def _stage(scope: Scope) -> str:
    """The path of the stage that Amazon API Gateway serves us under, else nothing."""
    event = scope.get("aws.event") or {}
    context = event.get("requestContext") or {}
    whole, short = context.get("path"), event.get("path")
    if isinstance(whole, str) and isinstance(short, str) and whole.endswith(short.rstrip("/")):
        # A REST API: the event has the path below the stage, its context the whole.
        return whole.removesuffix("/")[: len(whole.removesuffix("/")) - len(short.rstrip("/"))]
    stage = context.get("stage")
    raw = event.get("rawPath")
    if isinstance(stage, str) and isinstance(raw, str) and f"{raw}/".startswith(f"/{stage}/"):
        return f"/{stage}"
    return ""


def _as_seen(scope: Scope, seen: Seen, own_prefix: str) -> Scope:
    changed = dict(scope)
    if seen.scheme:
        changed["scheme"] = seen.scheme
    if seen.host:
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["host"] = seen.host
        changed["headers"] = headers.raw
    prefix = seen.prefix if seen.prefix is not None else own_prefix
    if not prefix:
        return changed
    changed["root_path"] = prefix
    path = scope["path"]
    if path == prefix:
        # Both names of the root are answered; the landing page tells which it was.
        changed["path"], changed["root_has_slash"] = f"{prefix}/", False
    elif not path.startswith(f"{prefix}/"):
        # The proxy has taken the prefix off; URLs are made from the whole path.
        changed["path"] = prefix + path
    return changed
