"""Links, hosts and origins as callers see them: behind proxies, prefixes and gateways."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from mangum import Mangum

from mlops.api import Api
from stac_api.app import create_app
from stac_api.settings import Settings
from tests.conftest import ApiServer
from tests.integration.test_links import DATA, PAGES, hrefs_in, links_of

PROXY, STRANGER = "10.0.0.7", "192.0.2.1"
HOST = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "stac.example"}


def ask(
    settings: Settings,
    path: str,
    headers: dict[str, str] | None = None,
    client: str = PROXY,
    method: str = "GET",
) -> httpx.Response:
    """One request to an application of these settings, from the address ``client``."""

    async def send() -> httpx.Response:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, client=(client, 1234))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://inside:8080") as http,
        ):
            return await http.request(method, path, headers=headers)

    return asyncio.run(send())


class TestOtherOrigins:
    ORIGIN = "https://browser.example"

    def preflight(self, http: httpx.Client, path: str, method: str) -> httpx.Response:
        headers = {
            "Origin": self.ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type,if-match,prefer",
        }
        return http.options(path, headers=headers)

    def test_pages_may_read_and_see_headers(self, http: httpx.Client) -> None:
        item = f"/collections/{DATA}/items/fields-v1"
        answer = http.get(item, headers={"Origin": self.ORIGIN})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Location", "Link", "Allow", "X-Request-Id"} <= set(exposed)
        assert self.preflight(http, "/search", "POST").status_code == 200

    def test_pages_of_anywhere_may_not_write(self, http: httpx.Client) -> None:
        item = f"/collections/{DATA}/items/fields-v1"
        for method in ("PUT", "PATCH", "DELETE"):
            assert self.preflight(http, item, method).status_code == 400
        assert self.preflight(http, f"/collections/{DATA}/items", "POST").status_code == 400

    def test_pages_of_named_origins_may_write(self, api_server: ApiServer) -> None:
        settings = api_server.settings.model_copy(update={"cors_origins": [self.ORIGIN]})
        headers = {"Origin": self.ORIGIN, "Access-Control-Request-Method": "PATCH"}
        path = "/collections/x/items/y"
        answer = ask(settings, path, headers, method="OPTIONS")
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == self.ORIGIN
        other = {**headers, "Origin": "https://elsewhere.example"}
        assert ask(settings, path, other, method="OPTIONS").status_code == 400


class TestProxies:
    @pytest.fixture
    def settings(self, api_server: ApiServer, workspace: Api) -> Settings:
        assert workspace.url == api_server.url
        return api_server.settings.model_copy(update={"trusted_proxies": ["10.0.0.0/8"]})

    @pytest.mark.parametrize(
        ("headers", "root"),
        [
            ({}, "http://inside:8080/"),
            (HOST, "https://stac.example/"),
            ({**HOST, "X-Forwarded-Port": "443"}, "https://stac.example/"),
            ({**HOST, "X-Forwarded-Port": "8443"}, "https://stac.example:8443/"),
            ({**HOST, "X-Forwarded-Prefix": "/a/b/"}, "https://stac.example/a/b/"),
            ({"X-Forwarded-Proto": "https"}, "https://inside:8080/"),
            (
                {"Forwarded": 'for=192.0.2.9;proto=https;host="stac.example:8443"'},
                "https://stac.example:8443/",
            ),
            # A row of proxies: what the outermost trusted one says counts.
            (
                {
                    "X-Forwarded-For": "192.0.2.9, 10.0.0.8",
                    "X-Forwarded-Proto": "https, http",
                    "X-Forwarded-Host": "stac.example, inner",
                },
                "https://stac.example/",
            ),
            # What the caller wrote in front of what the proxy added does not.
            (
                {
                    "X-Forwarded-For": "10.0.0.9, 192.0.2.9",
                    "X-Forwarded-Host": "evil.example, stac.example",
                },
                "http://stac.example/",
            ),
            (
                {"Forwarded": "host=evil.example, for=192.0.2.9;host=stac.example"},
                "http://stac.example/",
            ),
            # A proxy that writes the one passes on the other, as the caller wrote it.
            (
                {"X-Forwarded-For": "192.0.2.9", "Forwarded": "proto=https;host=evil.example"},
                "http://inside:8080/",
            ),
            ({**HOST, "Forwarded": "host=evil.example"}, "https://stac.example/"),
            # What cannot be a host, a scheme or a path is left out.
            ({"X-Forwarded-Host": "a/b?c"}, "http://inside:8080/"),
            ({"X-Forwarded-Proto": "javascript"}, "http://inside:8080/"),
            ({"X-Forwarded-Prefix": "//evil.example"}, "http://inside:8080/"),
        ],
    )
    def test_links_are_those_of_the_caller(
        self, settings: Settings, headers: dict[str, str], root: str
    ) -> None:
        page = ask(settings, "/", headers).json()
        assert links_of(page)["self"] == root
        assert {href.startswith(root) for href in hrefs_in(page)} == {True}

    def test_a_proxy_that_talks_through_a_socket_of_both_kinds(self, settings: Settings) -> None:
        page = ask(settings, "/", HOST, client=f"::ffff:{PROXY}").json()
        assert links_of(page)["self"] == "https://stac.example/"
        page = ask(settings, "/", HOST, client=f"::ffff:{STRANGER}").json()
        assert links_of(page)["self"] == "http://inside:8080/"

    def test_who_trusts_everybody_trusts_no_row_of_them(self, settings: Settings) -> None:
        """The addresses in the headers may be the caller's, as all that stands beside them."""
        settings = settings.model_copy(update={"trusted_proxies": ["*"]})
        headers = {
            "X-Forwarded-For": "10.0.0.9, 192.0.2.9",
            "X-Forwarded-Proto": "http, https",
            "X-Forwarded-Host": "evil.example, stac.example",
        }
        page = ask(settings, "/", headers, client=STRANGER).json()
        assert links_of(page)["self"] == "https://stac.example/"

    def test_strangers_are_not_believed(self, settings: Settings) -> None:
        headers = {**HOST, "X-Forwarded-Prefix": "/evil", "Forwarded": "host=evil.example"}
        page = ask(settings, "/", headers, client=STRANGER).json()
        assert {href.startswith("http://inside:8080/") for href in hrefs_in(page)} == {True}
        nobody = settings.model_copy(update={"trusted_proxies": []})
        assert links_of(ask(nobody, "/", headers).json())["self"] == "http://inside:8080/"

    @pytest.mark.parametrize("path", PAGES[:-2])
    @pytest.mark.parametrize("stripped", [True, False])
    def test_all_below_a_prefix_stays_below_it(
        self, settings: Settings, path: str, stripped: bool
    ) -> None:
        settings = settings.model_copy(update={"root_path": "/stac"})
        answer = ask(settings, path if stripped else f"/stac{path}", HOST)
        assert answer.status_code == 200
        own = [href for href in hrefs_in(answer.json()) if "stac.example" in href]
        assert all(href.startswith("https://stac.example/stac/") for href in own)
        assert own or "links" not in answer.json()

    def test_root_below_a_prefix_has_two_names(self, settings: Settings) -> None:
        settings = settings.model_copy(update={"root_path": "/stac"})
        for path in ("/stac", "/stac/"):
            answer = ask(settings, path, HOST)
            assert links_of(answer.json())["self"] == f"https://stac.example{path}"
            assert links_of(answer.json())["root"] == "https://stac.example/stac/"

    def test_what_was_written_through_a_proxy_is_read_without_it(
        self, settings: Settings, workspace: Api
    ) -> None:
        headers = {**HOST, "X-Forwarded-Prefix": "/stac"}
        path = f"/collections/{DATA}/items/fields-v1"
        through = ask(settings, path, headers).json()
        href = through["assets"]["manifest"]["href"]
        assert href.startswith("https://stac.example/stac/assets/alps/")
        direct = workspace.get_item(DATA, "fields-v1").item["assets"]["manifest"]["href"]
        assert direct == href.replace("https://stac.example/stac", workspace.url)


class TestApiGateway:
    """Amazon API Gateway's events, through Mangum, at a stage and at none."""

    def rest_event(self, path: str, stage: str) -> dict[str, Any]:
        return {
            "resource": "/{proxy+}",
            "path": path,
            "httpMethod": "GET",
            "headers": {"Host": "x.execute-api.example", "X-Forwarded-Proto": "https"},
            "multiValueHeaders": {
                "Host": ["x.execute-api.example"],
                "X-Forwarded-Proto": ["https"],
            },
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "requestContext": {
                "stage": stage,
                "path": f"/{stage}{path}",
                "identity": {"sourceIp": STRANGER},
            },
            "body": None,
            "isBase64Encoded": False,
        }

    def http_event(self, path: str, stage: str) -> dict[str, Any]:
        raw = path if stage == "$default" else f"/{stage}{path}"
        return {
            "version": "2.0",
            "rawPath": raw,
            "rawQueryString": "",
            "headers": {"host": "x.execute-api.example", "x-forwarded-proto": "https"},
            "requestContext": {
                "stage": stage,
                "http": {"method": "GET", "path": raw, "sourceIp": STRANGER},
            },
            "isBase64Encoded": False,
        }

    @pytest.mark.parametrize("path", ["/", "/collections"])
    @pytest.mark.parametrize(
        ("kind", "stage", "prefix"),
        [("rest", "prod", "/prod"), ("http", "prod", "/prod"), ("http", "$default", "")],
    )
    def test_links_have_the_stage(
        self, api_server: ApiServer, path: str, kind: str, stage: str, prefix: str
    ) -> None:
        event = getattr(self, f"{kind}_event")(path, stage)
        answer = Mangum(create_app(api_server.settings), lifespan="auto")(event, None)
        assert answer["statusCode"] == 200
        root = f"https://x.execute-api.example{prefix}"
        hrefs = re.findall(r'"href":"([^"]*)"', answer["body"])
        assert f"{root}{path}" in hrefs
        assert all(href.startswith(f"{root}/") for href in hrefs)
