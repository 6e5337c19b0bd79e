"""stac-api-validator over every conformance class that it knows, offline."""

import json

import pytest
from stac_api_validator.validations import QueryConfig, validate_api

from tests.conformance.conftest import COLLECTION, TRANSACTIONS, square
from tests.conftest import ApiServer

# Those that it checks anything of: it knows of sort, fields and query on the items of a collection,
# too, and says that it does not support them yet. "filter" is its name for what "item-search" does
# beside the rest.
CLASSES = [
    "core",
    "browseable",
    "collections",
    "features",
    "features#filter",
    "item-search",
    "item-search#filter",
    "item-search#fields",
    "item-search#sort",
    "item-search#query",
    "transaction",
]
# As its command line passes them on.
QUERY = {
    "query_comparison_field": "eo:cloud_cover",
    "query_eq_value": "25.0",
    "query_neq_value": "25.0",
    "query_lt_value": "25.0",
    "query_lte_value": "25.0",
    "query_gt_value": "25.0",
    "query_gte_value": "25.0",
    "query_substring_field": "mission",
    "query_starts_with_value": "sentinel",
    "query_ends_with_value": "2",
    "query_contains_value": "tinel-1",
    "query_in_field": "test:letter",
    "query_in_values": "a,b",
}


@pytest.mark.usefixtures("core_schemas")
@pytest.mark.parametrize("class_", CLASSES)
def test_no_errors(filled_api: ApiServer, outside: list[str], class_: str) -> None:
    # With the core it also looks whether the landing page advertises the class.
    errors = validate(filled_api, "core", class_)
    assert errors == []
    assert outside == [], "the validator asked the network for what should be here"


def validate(api: ApiServer, *classes: str) -> list[str]:
    _, errors = validate_api(
        root_url=api.url + "/",
        ccs_to_validate=list(classes),
        collection=COLLECTION,
        geometry=json.dumps(square(20, 20, 5)),
        auth_bearer_token=None,
        auth_query_parameter=None,
        fields_nested_property="properties.eo:cloud_cover",
        validate_pagination=True,
        query_config=QueryConfig(**QUERY),
        transaction_collection=TRANSACTIONS,
        headers={},
    )
    return errors.as_list()
