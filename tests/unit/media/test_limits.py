from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.media.addresses import is_public
from bridge.media.limits import MIB, WHATSAPP_MAX_BYTES, MediaLimits


def test_settings_override_by_name_and_null_keeps() -> None:
    changed = MediaLimits().overridden({"video_bytes": WHATSAPP_MAX_BYTES, "image_bytes": None})
    assert changed.video_bytes == WHATSAPP_MAX_BYTES
    assert changed.image_bytes == 16 * MIB


@pytest.mark.parametrize(
    "settings",
    [
        {"video_bytes": WHATSAPP_MAX_BYTES + 1},
        {"video_bytes": 0},
        {"video_bytes": -1},
        {"video_bytes": "100"},
        {"video_bytes": True},
        {"video_bytes": 1.5},
        {"vidoe_bytes": 100},
    ],
)
def test_an_impossible_limit_is_refused_with_its_name(settings: dict[str, object]) -> None:
    with pytest.raises(BridgeError) as caught:
        MediaLimits().overridden(settings)
    assert caught.value.code == "media_limit_invalid"
    assert next(iter(settings)) in caught.value.sentence


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450::5"])
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_hides_in_ipv6(address: object) -> None:
    packed = ip_address(str(address))
    for text in (f"::ffff:{packed}", f"::{packed}", f"64:ff9b::{packed}", f"64:ff9b:1::{packed}"):
        assert not is_public(ip_address(text))
    first, second = packed.packed[:2].hex(), packed.packed[2:].hex()
    assert not is_public(ip_address(f"2002:{first}:{second}::1"))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_python_knows_as_inside_is_never_public(address: object) -> None:
    parsed = ip_address(str(address))
    inside = (
        parsed.is_private
        or parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_multicast
        or parsed.is_reserved
        or parsed.is_unspecified
    )
    assert not (inside and is_public(parsed))
