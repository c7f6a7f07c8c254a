# SPDX-License-Identifier: Apache-2.0
import pytest
from openstack import exceptions


def test_the_endpoint_of_auth_type_none_is_the_api(proxy, api):
    api.answer("GET /v1/pools", {"pools": []})
    assert list(proxy.pools()) == []


def test_a_list_follows_the_links_to_its_last_page(proxy, api, pool):
    link = {"rel": "next", "href": f"{api.url}/v1/pools?marker=a"}
    first = {"pools": [{**pool, "id": "a"}], "pools_links": [link]}
    api.answer("GET /v1/pools", first, {"pools": [{**pool, "id": "b"}]})
    assert [each.id for each in proxy.pools()] == ["a", "b"]
    assert api.asked[-1].query == "marker=a"


def test_a_limit_asks_for_one_page(proxy, api, pool):
    link = {"rel": "next", "href": f"{api.url}/v1/pools?marker=a"}
    api.answer("GET /v1/pools", {"pools": [pool], "pools_links": [link]})
    assert len(list(proxy.pools(limit=1))) == 1
    assert api.asked[-1].query == "limit=1"


def test_a_name_that_looks_like_an_id_is_found(proxy, api, pool, existing):
    name = "33333333-3333-4333-8333-333333333333"
    assert proxy.find_pool(name).id == pool["id"]


def test_a_name_is_never_a_path(proxy, api, pool):
    api.answer("GET /v1/pools", {"pools": []})
    with pytest.raises(exceptions.NotFoundException, match=r"There is no pool '\.\./networks'"):
        proxy.find_pool("../networks")
    assert api.asked[-1].query == "name=..%2Fnetworks"


def test_an_ambiguous_name_names_the_ids(proxy, api, pool):
    api.answer("GET /v1/pools", {"pools": [{**pool, "id": "a"}, {**pool, "id": "b"}]})
    with pytest.raises(exceptions.DuplicateResource, match="give one's ID: a, b"):
        proxy.find_pool("web")


def test_a_name_that_is_being_given_up_is_not_ambiguous(proxy, api, pool, existing):
    old = {**pool, "id": "old", "removing": True}
    api.answer("GET /v1/pools", {"pools": [old, pool]})
    assert proxy.find_pool("web").id == pool["id"]


def test_a_problem_is_raised_in_the_apis_words(proxy, api, pool):
    api.refuse("GET /v1/pools", 403, "Only administrators may list them.")
    with pytest.raises(exceptions.ForbiddenException) as error:
        list(proxy.pools())
    assert error.value.message == "Only administrators may list them."


def test_a_change_is_a_merge_patch_of_what_differs(proxy, api, pool, existing):
    api.answer(f"PATCH {existing}", {"pool": pool})
    found = proxy.find_pool("web")
    proxy.update_pool(found, name="web", drain_timeout=5, monitor=None)
    proxy.update_pool(found, monitor={"rise": 5})
    assert api.bodies(f"PATCH {existing}") == [
        {"pool": {"drain_timeout": 5}},
        {"pool": {"monitor": {"rise": 5}}},
    ]


def test_waiting_ends_when_the_pool_is_realized(proxy, api, pool, pending, existing):
    api.answer(f"GET {existing}", {"pool": pending}, {"pool": pool})
    assert proxy.wait_for_pool(pool["id"], 30).status["realized"]["state"] == "yes"


def test_waiting_in_vain_says_what_is_missing(proxy, api, pool, pending, existing):
    api.answer(f"GET {existing}", {"pool": pending})
    with pytest.raises(exceptions.ResourceTimeout, match=r"pending \(h1 has generation 3 of 4\)"):
        proxy.wait_for_pool(pool["id"], 0)


def test_waiting_for_a_deletion_ends_with_not_found(proxy, api, pool, existing):
    found = proxy.find_pool("web")
    with pytest.raises(exceptions.ResourceTimeout, match="is still there"):
        proxy.wait_for_deletion(found, 0)
    api.refuse(f"GET {existing}", 404, "Gone.")
    proxy.wait_for_deletion(found, 0)


def test_one_request_never_waits_longer_than_the_api_allows(proxy, api, pool, existing):
    api.answer("POST /v1/pools", {"pool": pool})
    proxy.create_pool(wait=500, name="web")
    assert api.asked[-1].query == "wait=30"


def test_members_know_their_pool(proxy, api, pool):
    api.answer("GET /v1/pools/P/members", {"members": [{"id": "m", "pool_id": "P"}]})
    api.answer("PATCH /v1/pools/P/members/m", {"member": {"id": "m", "pool_id": "P"}})
    (member,) = proxy.pool_members("P")
    proxy.update_pool_member(member, weight=0)
    assert api.bodies("PATCH /v1/pools/P/members/m") == [{"member": {"weight": 0}}]
