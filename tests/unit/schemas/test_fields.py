# SPDX-License-Identifier: Apache-2.0
"""Schemas are combined as their docstrings say."""

import pytest
from jsonschema import Draft202012Validator

from cloudlb.schemas import network, pool
from cloudlb.schemas.fields import LABEL, NAME, TEXT, Schema, patch


@pytest.mark.parametrize("text", ["a\n", "a\0", "\x7f", "\ud800"])
def test_names_are_printable_to_the_last_character(text: str) -> None:
    for schema in (NAME, LABEL):
        assert not Draft202012Validator(schema).is_valid(text)


def test_texts_may_have_lines() -> None:
    assert Draft202012Validator(TEXT).is_valid("one\n\ttwo\n")
    assert not Draft202012Validator(TEXT).is_valid("a\0")


def test_a_patch_requires_nothing_and_takes_null_for_everything() -> None:
    for whole in (pool.REPLACE["properties"]["pool"], network.CREATE["properties"]["network"]):
        validator = Draft202012Validator(patch(whole))
        assert validator.is_valid({})
        assert validator.is_valid(dict.fromkeys(whole["properties"]))


def test_a_patch_of_an_object_inside_is_a_patch_too() -> None:
    inner: Schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "default": 3}},
        "required": ["a"],
    }
    made = patch({"type": "object", "properties": {"inner": inner}})
    assert Draft202012Validator(made).is_valid({"inner": {}})
    assert "default" not in made["properties"]["inner"]["properties"]["a"]
