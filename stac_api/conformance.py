"""What the API conforms to: the classes that it advertises, each for something that it does."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from stac_api.hrefs import JSON
from stac_api.routes import Routes

router = Routes("Landing page")

_STAC = "https://api.stacspec.org"
_OGC = "http://www.opengis.net/spec"

_CORE = (
    f"{_STAC}/v1.0.0/core",
    f"{_STAC}/v1.0.0-rc.3/browseable",
    f"{_STAC}/v1.0.0/collections",
    f"{_STAC}/v1.0.0/ogcapi-features",
    f"{_STAC}/v1.0.0/item-search",
    f"{_OGC}/ogcapi-features-1/1.0/conf/core",
    f"{_OGC}/ogcapi-features-1/1.0/conf/geojson",
    f"{_OGC}/ogcapi-features-1/1.0/conf/oas30",
)
_SEARCH = tuple(
    f"{_STAC}/{version}/{place}#{extension}"
    for place in ("item-search", "ogcapi-features")
    for version, extension in (
        # The newest release, and the one that pystac-client 0.9 knows.
        ("v1.1.0", "sort"),
        ("v1.0.0", "sort"),
        ("v1.0.0", "fields"),
        ("v1.0.0", "query"),
        ("v1.0.0-rc.1", "free-text"),
    )
)
_COLLECTION_SEARCH = (
    f"{_STAC}/v1.0.0-rc.1/collection-search",
    f"{_OGC}/ogcapi-common-2/1.0/conf/simple-query",
    f"{_STAC}/v1.0.0-rc.1/collection-search#fields",
    f"{_STAC}/v1.0.0-rc.1/collection-search#filter",
    f"{_STAC}/v1.0.0-rc.1/collection-search#free-text",
    f"{_STAC}/v1.0.0-rc.1/collection-search#query",
    f"{_STAC}/v1.1.0/collection-search#sort",
)
_FILTER = (
    f"{_STAC}/v1.0.0-rc.3/item-search#filter",
    f"{_OGC}/ogcapi-features-3/1.0/conf/filter",
    f"{_OGC}/ogcapi-features-3/1.0/conf/features-filter",
    *(
        f"{_OGC}/cql2/1.0/conf/{name}"
        for name in (
            "cql2-text",
            "cql2-json",
            "basic-cql2",
            "advanced-comparison-operators",
            "case-insensitive-comparison",
            "accent-insensitive-comparison",
            "basic-spatial-functions",
            "basic-spatial-functions-plus",
            "spatial-functions",
            "temporal-functions",
            "array-functions",
            "property-property",
            "arithmetic",
            # Their names before the standard was final, by which some clients still ask.
            "basic-spatial-operators",
            "spatial-operators",
            "temporal-operators",
            "array-operators",
        )
    ),
)
_TRANSACTION = (
    f"{_STAC}/v1.0.0/ogcapi-features/extensions/transaction",
    f"{_STAC}/v1.0.0/collections/extensions/transaction",
    f"{_OGC}/ogcapi-features-4/1.0/conf/simpletx",
)

CONFORMANCE_CLASSES = sorted({*_CORE, *_SEARCH, *_COLLECTION_SEARCH, *_FILTER, *_TRANSACTION})
"""All of them, by name."""


@router.get("/conformance", summary="Conformance classes")
async def read_conformance(request: Request) -> Response:
    """The conformance classes, as stac-fastapi's registry has them."""
    return Response(orjson.dumps({"conformsTo": request.app.state.conformance}), media_type=JSON)
