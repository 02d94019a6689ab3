"""Nonsense in `commands` is refused with a reason, and nothing but that row suffers."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgrest.exceptions import APIError

from tests.acceptance.conftest import Frontend, Linked

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5)
    ),
    max_leaves=12,
)
words = st.sampled_from(
    [
        "to",
        "type",
        "text",
        "method",
        "phone",
        "conversation_id",
        "qr",
        "send",
        "código",
        "\u202e",
        "",
    ]
)
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "to": st.sampled_from(
            ["+55 11 90000-0002", "1", "", "x@g.us", "00000000-0000-0000-0000-000000000000"]
        )
        | documents,
        "type": st.sampled_from(["text", "image", "poll"]) | documents,
        "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | documents,
        "method": st.sampled_from(["qr", "code"]) | documents,
        "conversation_id": documents,
        "mentions": documents,
    },
)
types = st.sampled_from(
    ["connect", "send", "mark_read", "disconnect", "logout", "poll", "", "SEND"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HARMFUL_IF_VALID = {"disconnect", "logout", "connect"}


async def test_nonsense_is_refused_and_the_next_good_command_runs(linked: Linked) -> None:
    refusals: list[str] = []
    accepted = 0

    @settings(
        max_examples=150,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(type_=types, payload=documents | nearly_right)
    def throw(type_: str, payload: Any) -> None:
        cases.append((type_, payload))

    cases: list[tuple[str, Any]] = []
    throw()
    for type_, payload in cases:
        if type_ in HARMFUL_IF_VALID and payload in ({}, {"method": "qr"}):
            continue  # a valid command is not nonsense
        try:
            await linked.frontend.insert_command(linked.account, type_, payload)
        except APIError as error:
            assert error.code in {"22023", "22P02", "22P05", "23502", "23514", "PGRST102"}, error
            assert error.message
            refusals.append(error.message)
        else:
            accepted += 1
    assert refusals
    rows = await linked.frontend.rows("commands", integration_account_id=linked.account)
    assert len(rows) == accepted + 1  # and the `connect` of the fixture

    with anyio.fail_after(60):
        for row in rows:
            final = await linked.frontend.until_command(row["id"], within_s=60)
            if final["status"] == "failed":
                assert final["error_code"]
                assert final["error_message"]
    await linked.talk_both_ways()


@pytest.mark.parametrize(
    ("type_", "payload", "reason"),
    [
        ("send", {"type": "text", "text": "no recipient"}, "to"),
        ("send", {"to": "+5511900000002", "type": "text"}, "text"),
        ("send", {"to": "+5511900000002", "type": "text", "text": ""}, "text"),
        ("send", {"to": "12", "type": "text", "text": "short number"}, "to"),
        ("send", {"to": "+5511900000002", "type": "hologram", "text": "x"}, "type"),
        ("send", {"to": "+5511900000002", "type": "text", "text": "x", "tekst": 1}, "tekst"),
        ("connect", {"method": "telepathy"}, "method"),
        ("connect", {"method": "code"}, "phone"),
        ("mark_read", {}, "conversation_id"),
        ("dance", {}, "dance"),
    ],
)
async def test_the_refusal_names_what_is_wrong(
    frontend: Frontend, type_: str, payload: dict[str, Any], reason: str
) -> None:
    account = await frontend.insert_account()
    with pytest.raises(APIError) as refused:
        await frontend.insert_command(account, type_, payload)
    assert refused.value.code == "22023"
    assert reason in str(refused.value.message)


async def test_a_number_that_is_not_on_whatsapp_fails_its_command(linked: Linked) -> None:
    row = await linked.frontend.send_text(linked.account, "+5511999999999", "anybody there?")
    assert (row["status"], row["error_code"]) == ("failed", "recipient_not_on_whatsapp")
    assert row["error_message"]
    message = await linked.frontend.until_message(command_id=row["id"])
    assert (message["status"], message["error_code"]) == ("failed", "recipient_not_on_whatsapp")
    await linked.talk_both_ways()
