import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.ids import AccountId
from bridge.vault import AccountVault, Vault, VaultError, open_json

ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111")
OTHER = AccountId("22222222-2222-2222-2222-222222222222")
OLD = "an old secret of some length"
NEW = "a new secret of some length"


@given(plaintext=st.binary(max_size=4096), generation=st.integers(min_value=0))
def test_what_is_sealed_opens_again(plaintext, generation):
    vault = Vault.from_secret(NEW)

    sealed = vault.seal(plaintext, purpose="session", account=ACCOUNT, generation=generation)
    value = sealed.to_json()

    assert (
        open_json(vault, value, purpose="session", account=ACCOUNT, generation=generation)
        == plaintext
    )


@pytest.mark.parametrize(
    ("purpose", "account", "generation"),
    [("spool", ACCOUNT, 7), ("session", OTHER, 7), ("session", ACCOUNT, 6)],
)
def test_it_opens_only_in_its_place(purpose, account, generation):
    vault = Vault.from_secret(NEW)
    sealed = vault.seal(b"state", purpose="session", account=ACCOUNT, generation=7)

    with pytest.raises(VaultError) as caught:
        vault.open(sealed, purpose=purpose, account=account, generation=generation)

    assert caught.value.code == "sealed_corrupt"


@given(data=st.data())
def test_every_changed_bit_is_noticed(data):
    vault = Vault.from_secret(NEW)
    sealed = vault.seal(b"some state", purpose="session", account=ACCOUNT, generation=1)
    field = data.draw(st.sampled_from(["nonce", "data"]))
    raw = bytearray(getattr(sealed, field))
    at = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    changes: dict[str, Any] = {field: bytes(raw)}
    changed = dataclasses.replace(sealed, **changes)

    with pytest.raises(VaultError):
        vault.open(changed, purpose="session", account=ACCOUNT, generation=1)


def test_an_old_key_opens_and_a_new_one_seals():
    before = Vault.from_secret(f"old:{OLD}")
    sealed = before.seal(b"state", purpose="session", account=ACCOUNT, generation=1)
    rotated = Vault.from_secret(f"new:{NEW}, old:{OLD}")

    assert rotated.open(sealed, purpose="session", account=ACCOUNT, generation=1) == b"state"
    again = rotated.seal(b"state", purpose="session", account=ACCOUNT, generation=2)
    assert again.key_id == "new"


def test_an_unknown_key_is_named_in_the_error():
    sealed = Vault.from_secret(f"old:{OLD}").seal(
        b"state", purpose="session", account=ACCOUNT, generation=1
    )

    with pytest.raises(VaultError, match="'old'") as caught:
        Vault.from_secret(f"new:{NEW}").open(
            sealed, purpose="session", account=ACCOUNT, generation=1
        )

    assert caught.value.code == "key_unknown"


def test_a_key_without_an_id_is_named_by_what_it_is():
    assert Vault.from_secret(OLD).key_ids == Vault.from_secret(OLD).key_ids
    assert Vault.from_secret(OLD).key_ids != Vault.from_secret(NEW).key_ids


@pytest.mark.parametrize("text", ["", "short", f"{OLD},", f"a:{OLD},a:{NEW}"])
def test_bad_secrets_are_refused_with_the_name_of_the_variable(text):
    with pytest.raises(ConfigError, match="BAILEYS_AUTH_SECRET"):
        Vault.from_secret(text)


def _damaged():
    good = Vault.from_secret(NEW).seal(b"x", purpose="s", account=ACCOUNT, generation=1).to_json()
    for key in good:
        without = copy.copy(good)
        del without[key]
        yield without
        yield {**good, key: None}
    yield {**good, "v": 2}
    yield {**good, "alg": "none"}
    yield {**good, "data": "not base64!"}
    yield {**good, "nonce": ""}
    yield from (None, [], "text", 3)


@pytest.mark.parametrize("value", list(_damaged()))
def test_damaged_json_is_an_account_error(value):
    with pytest.raises(VaultError):
        open_json(Vault.from_secret(NEW), value, purpose="s", account=ACCOUNT, generation=1)


def test_keys_given_to_another_process_open_only_their_purpose():
    vault = Vault.from_secret(NEW)
    spool = AccountVault(vault.keys_of(ACCOUNT, purpose="spool"))
    state = vault.seal(b"state", purpose="session", account=ACCOUNT, generation=1)

    with pytest.raises(VaultError):
        spool.open(state, generation=1)


def test_no_secret_shows_in_a_representation():
    vault = Vault.from_secret(f"k:{NEW}")
    keys = vault.keys_of(ACCOUNT, purpose="spool")

    assert NEW not in repr(vault)
    assert repr(keys.keys[0][1]) not in repr(keys)
