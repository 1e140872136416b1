"""Settings as they may be printed: no secret, by its name or within an address."""

from typing import Any

import pytest

from service.settings.load import hidden, masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:hunter2@host:6379", "redis://********@host:6379"),
        ("redis://:hun@ter2@host:6379", "redis://********@host:6379"),
        ("redis://:hun/ter2@host:6379", "redis://********@host:6379"),
        ("redis://:hun?ter2@host:6379/0?x=hunter2", "redis://********@host:6379/0?********"),
        ("redis://:5000/hunter2@host", "redis://********@host"),
        ("https://hunter2@host/a", "https://********@host/a"),
        ("https://host/a?token=hunter2", "https://host/a?********"),
        ("https://host:8443/a@b", "https://host:8443/a@b"),
        ("https://[::1]:8443/a@b", "https://[::1]:8443/a@b"),
        ("hf://org/name@revision", "hf://org/name@revision"),
        ("oci://registry:5000/name@sha256:abc", "oci://registry:5000/name@sha256:abc"),
        ("a text: with @ and ?", "a text: with @ and ?"),
    ],
)
def test_of_an_address_user_password_and_query_are_masked(address: str, shown: str) -> None:
    assert masked(address) == shown


@pytest.mark.parametrize(
    "address",
    ["redis://:hunter2@h", "redis://h?password=hunter2", "redis:/:hunter2@h", "redis:hunter2@h"],
)
def test_of_an_address_that_cannot_be_taken_apart_the_scheme_is_left(address: str) -> None:
    assert hidden(address) in ("redis://********", "redis:/********", "********")
    assert masked({"storage": address})["storage"] == hidden(address)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"hf-token": "s"}, {"hf-token": "********"}),
        (
            {"aws_secret_access_key": "s", "auth": "s"},
            dict.fromkeys(("aws_secret_access_key", "auth"), "********"),
        ),
        ({"config": '{"token": "s", "n": 1}'}, {"config": '{"token": "********", "n": 1}'}),
        ({"config": "{broken"}, {"config": "********"}),
        ({"tokenizer": "folder", "max_tokens": 3}, {"tokenizer": "folder", "max_tokens": 3}),
        ({"api_key": ["a", "b"]}, {"api_key": ["********", "********"]}),
        ({"token": None, "storage": "memory://"}, {"token": None, "storage": "memory://"}),
    ],
)
def test_what_is_named_like_a_secret_is_masked(value: Any, shown: Any) -> None:
    assert masked(value) == shown
