"""Messages of businesses: buttons, lists, templates, catalogues. They become readable text.

`conteudo` is what a person would read on the phone: title, text, footer, and the choices as a list.
What can be chosen is in the payload as well, and what was chosen with its id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from bridge.normalise.fields import (
    MAX_TEXT_CHARS,
    Fields,
    items,
    known,
    label,
    sub,
    text,
    whole,
)

Read = tuple[str | None, Fields]


def buttons(body: Fields) -> Read:
    """Text with reply buttons."""
    choices = [
        _choice(each, label(sub(each, "buttonText"), "displayText"), "buttonID")
        for each in items(body, "buttons")
    ]
    parts = [label(body, "text"), text(body, "contentText"), label(body, "footerText")]
    return _readable(parts, choices), {"kind": "buttons", "choices": choices}


def buttons_reply(body: Fields) -> Read:
    """Which button somebody pressed."""
    chosen = known(id=label(body, "selectedButtonID"), title=label(body, "selectedDisplayText"))
    return _chosen(chosen), {"kind": "buttons_reply", "chosen": chosen}


def list_(body: Fields) -> Read:
    """Text with a list to choose from."""
    choices = [
        _choice(row, label(row, "title"), "rowID") | known(description=label(row, "description"))
        for section in items(body, "sections")
        for row in items(section, "rows")
    ]
    parts = [label(body, "title"), text(body, "description"), label(body, "footerText")]
    return _readable(parts, choices), {"kind": "list", "choices": choices} | known(
        button=label(body, "buttonText")
    )


def list_reply(body: Fields) -> Read:
    """Which row of a list somebody chose."""
    chosen = known(
        id=label(sub(body, "singleSelectReply"), "selectedRowID"),
        title=label(body, "title"),
        description=label(body, "description"),
    )
    return _chosen(chosen), {"kind": "list_reply", "chosen": chosen}


def template(body: Fields) -> Read:
    """A template, filled in."""
    if interactive_body := sub(body, "interactiveMessageTemplate"):
        shown, payload = interactive(interactive_body)
        return shown, payload | {"kind": "template"}
    filled = sub(body, "hydratedTemplate") or sub(body, "hydratedFourRowTemplate")
    parts = [
        label(filled, "hydratedTitleText"),
        text(filled, "hydratedContentText"),
        label(filled, "hydratedFooterText"),
    ]
    choices = [_template_button(each) for each in items(filled, "hydratedButtons")]
    return _readable(parts, choices), {"kind": "template", "choices": choices}


def structured(body: Fields) -> Read:
    """The older form of a template."""
    shown, payload = template(sub(body, "hydratedHsm"))
    return shown or label(body, "elementName"), payload


def template_reply(body: Fields) -> Read:
    """Which button of a template somebody pressed."""
    chosen = known(id=label(body, "selectedID"), title=label(body, "selectedDisplayText"))
    return _chosen(chosen), {"kind": "template_reply", "chosen": chosen}


def interactive(body: Fields) -> Read:
    """Text with native buttons, or a carousel of such."""
    choices = [_native_button(each) for each in items(sub(body, "nativeFlowMessage"), "buttons")]
    parts = [
        label(sub(body, "header"), "title"),
        text(sub(body, "body"), "text"),
        label(sub(body, "footer"), "text"),
    ]
    cards = items(sub(body, "carouselMessage"), "cards")
    for card in cards:
        shown, payload = _card(card)
        parts.append(shown)
        choices += payload
    return _readable(parts, choices), {"kind": "interactive", "choices": choices}


def interactive_reply(body: Fields) -> Read:
    """What somebody answered to native buttons or a form."""
    flow = sub(body, "nativeFlowResponseMessage")
    chosen = known(
        id=_reply_id(flow), title=label(sub(body, "body"), "text"), flow=label(flow, "name")
    )
    return _chosen(chosen), {"kind": "interactive_reply", "chosen": chosen}


def product(body: Fields) -> Read:
    """A product of a catalogue."""
    what = sub(body, "product")
    title, description = label(what, "title"), text(what, "description")
    parts = [title, description, text(body, "body"), label(body, "footer"), label(what, "URL")]
    return _readable(parts, []), known(
        kind="product",
        id=label(what, "productID"),
        title=title,
        currency=label(what, "currencyCode"),
        price_1000=whole(what, "priceAmount1000", most=2**53),
    )


def order(body: Fields) -> Read:
    """A cart that somebody sent."""
    parts = [label(body, "orderTitle"), text(body, "message")]
    return _readable(parts, []), known(
        kind="order",
        id=label(body, "orderID"),
        items=whole(body, "itemCount"),
        currency=label(body, "totalCurrencyCode"),
        total_1000=whole(body, "totalAmount1000", most=2**53),
    )


def group_invite(body: Fields) -> Read:
    """An invitation into a group, with its link."""
    code = label(body, "inviteCode")
    link = f"https://chat.whatsapp.com/{code}" if code else None
    parts = [label(body, "groupName"), text(body, "caption"), link]
    return _readable(parts, []), known(
        kind="group_invite",
        group=label(body, "groupJID"),
        name=label(body, "groupName"),
        link=link,
        expires_at=whole(body, "inviteExpiration", most=2**53),
    )


def event(body: Fields) -> Read:
    """An event that people may join."""
    place = sub(body, "location")
    parts = [
        label(body, "name"),
        text(body, "description"),
        label(place, "name", "address"),
        label(body, "joinLink"),
    ]
    return _readable(parts, []), known(
        kind="event",
        name=label(body, "name"),
        starts_at=whole(body, "startTime", most=2**53),
        ends_at=whole(body, "endTime", most=2**53),
        cancelled=body.get("isCanceled") is True,
    )


def _card(body: Fields) -> tuple[str | None, list[Fields]]:
    parts = [label(sub(body, "header"), "title"), text(sub(body, "body"), "text")]
    choices = [_native_button(each) for each in items(sub(body, "nativeFlowMessage"), "buttons")]
    return _joined(parts), choices


def _choice(body: Fields, title: str | None, id_field: str) -> Fields:
    return known(id=label(body, id_field), title=title)


def _template_button(body: Fields) -> Fields:
    for kind in ("quickReplyButton", "urlButton", "callButton"):
        if button := sub(body, kind):
            return known(
                id=label(button, "ID"),
                title=label(button, "displayText"),
                url=label(button, "URL"),
                number=label(button, "phoneNumber"),
            )
    return {}


def _native_button(body: Fields) -> Fields:
    params = _json(text(body, "buttonParamsJSON"))
    return known(
        kind=label(body, "name"),
        id=label(params, "id"),
        title=label(params, "display_text", "title"),
        url=label(params, "url", "merchant_url"),
        code=label(params, "copy_code"),
    )


def _reply_id(flow: Fields) -> str | None:
    return label(_json(text(flow, "paramsJSON")), "id")


def _json(raw: str | None) -> Fields:
    try:
        value = json.loads(raw or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _chosen(chosen: Fields) -> str | None:
    title = chosen.get("title") or chosen.get("id")
    return str(title) if title else None


def _readable(parts: Iterable[str | None], choices: list[Fields]) -> str | None:
    lines = [f"• {title}" for title in (_chosen(each) for each in choices) if title]
    return _joined([*parts, "\n".join(lines)])


def _joined(parts: Iterable[str | None]) -> str | None:
    return "\n".join(part for part in parts if part)[:MAX_TEXT_CHARS] or None
