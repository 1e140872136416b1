"""Keys: random, of a known form, and hashed."""

from hashlib import sha256

from service.tenants.keyring import PREFIX, KeyRecord, key_digest, new_key


def test_a_new_key_is_random_and_known_by_its_form() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert first.startswith(PREFIX)
    assert key_digest(first) == sha256(first.encode()).digest()


def test_a_text_too_long_for_a_key_is_not_hashed() -> None:
    assert key_digest("k" * 128) is not None
    assert key_digest("k" * 129) is None


def test_a_key_is_named_by_the_first_digits_of_its_hash() -> None:
    assert KeyRecord(sha256="0123456789abcdef" * 4).id == "0123456789ab"
