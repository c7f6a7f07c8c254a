# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is valid and names every route."""

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from cloudlb.api import openapi
from cloudlb.api.app import ROUTES
from cloudlb.policies import list_rules


def test_the_document_is_valid_openapi() -> None:
    validate(openapi.document(ROUTES))


def test_every_operation_has_a_name_of_its_own() -> None:
    document = openapi.document(ROUTES)
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names)) > 25


def test_every_schema_is_valid() -> None:
    for _, resource in ROUTES:
        for _, contract in openapi.operations(resource):
            for schema in [contract.body, *contract.answers.values(), *contract.query.values()]:
                if schema is not None:
                    Draft202012Validator.check_schema(schema)


def test_every_rule_of_the_routes_has_a_policy_and_each_policy_a_use() -> None:
    used = {
        contract.rule
        for _, resource in ROUTES
        for _, contract in openapi.operations(resource)
        if contract.rule is not None
    }
    named = {rule.name for rule in list_rules()}
    assert named - used == {
        "all_projects",
        "member:any_server",
        "member:remote_server",
    }
    assert used <= named


def test_only_what_everybody_may_see_has_no_rule() -> None:
    free = {
        path
        for path, resource in ROUTES
        for _, contract in openapi.operations(resource)
        if contract.rule is None
    }
    assert free == {"/", "/v1", "/healthcheck", "/v1/openapi.json"}


def test_headers_patches_and_problems_are_described() -> None:
    document = openapi.document(ROUTES)
    pool = document["paths"]["/v1/pools/{pool_id}"]
    patch = pool["patch"]
    assert set(patch["requestBody"]["content"]) == {
        "application/json",
        "application/merge-patch+json",
    }
    assert {"$ref": "#/components/parameters/If-Match"} in patch["parameters"]
    assert set(patch["responses"]["202"]["headers"]) == {"ETag", "Location", "Retry-After"}
    assert set(patch["responses"]["200"]["headers"]) == {"ETag", "Location"}
    assert {"400", "403", "404", "409", "412", "413", "415", "503"} <= set(patch["responses"])
    assert set(pool["delete"]["responses"]["202"]["headers"]) == {"Location", "Retry-After"}
    host = document["paths"]["/v1/hosts/{name}"]
    assert set(host["get"]["responses"]["200"]["headers"]) == {"ETag"}
    assert {"$ref": "#/components/parameters/If-Match"} in host["delete"]["parameters"]
    members = document["paths"]["/v1/pools/{pool_id}/members"]["patch"]
    assert set(members["requestBody"]["content"]) == {"application/json"}
