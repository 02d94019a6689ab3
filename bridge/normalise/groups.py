"""What happened to a group: lines in the middle of its chat, its name, and who is in it.

The rows are language-neutral: `payload.action` says what happened, a frontend has the words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from bridge.events import GroupNews, Person
from bridge.ids import Jid, WhatsAppMessageId
from bridge.normalise.fields import MAX_LABEL_CHARS, MAX_TEXT_CHARS, known
from bridge.normalise.identity import chat_of, person_of
from bridge.normalise.rows import (
    GroupRow,
    ParticipantPart,
    PersonPart,
    PictureRow,
    Row,
    SystemRow,
    clean,
    iso,
)

# As many as a person can read; the payload says how many there were.
MAX_PEOPLE = 100


def rows_of_news(news: GroupNews) -> list[Row]:  # noqa: C901 - one line a kind
    """A row for each thing that changed; what the group is then goes to the conversation, too."""
    rows: list[Row] = []
    if news.created:
        rows.append(_row(news, "created", text=news.subject))
    elif news.subject is not None:
        rows.append(_row(news, "subject", text=news.subject))
    if news.description is not None:
        rows.append(_row(news, "description", text=news.description))
    for action, people in (
        ("join", news.joined),
        ("leave", news.left),
        ("promote", news.promoted),
        ("demote", news.demoted),
    ):
        if people:
            rows.append(_row(news, action, people=people))
    if news.announce is not None:
        rows.append(_row(news, "announce", on=news.announce))
    if news.locked is not None:
        rows.append(_row(news, "locked", on=news.locked))
    if news.disappearing_s is not None:
        rows.append(_row(news, "disappearing", seconds=max(0, news.disappearing_s)))
    if news.picture is not None:
        rows.append(_row(news, "picture", on=news.picture))
        rows.append(PictureRow(group=Jid(clean(news.chat))))
    if news.deleted:
        rows.append(_row(news, "deleted"))
    about_group = (news.subject, news.description)
    if any(about is not None for about in about_group) or any(
        (news.joined, news.left, news.promoted, news.demoted)
    ):
        rows.append(
            GroupRow(
                jid=Jid(clean(news.chat)),
                subject=_subject(news.subject),
                description=_description(news.description),
                joined=_people(news.joined),
                left=_people(news.left),
                promoted=_people(news.promoted),
                demoted=_people(news.demoted),
            )
        )
    return rows


def row_of_group(jid: Jid, told: Mapping[str, Any]) -> GroupRow:
    """The group as a whole, out of what `AskGroup` answers."""
    return GroupRow(
        jid=Jid(clean(jid)),
        subject=_subject(told["subject"]),
        description=_description(told["description"] or ""),
        participants=[
            ParticipantPart(
                phone_jid=each["phone_jid"],
                lid=each["lid"],
                role="admin" if each["admin"] else "member",
            )
            for each in told["participants"]
            if each["phone_jid"] or each["lid"]
        ],
    )


def _row(
    news: GroupNews,
    action: str,
    *,
    text: str | None = None,
    people: list[Person] | None = None,
    **payload: Any,
) -> SystemRow:
    who = _people(people or [])
    return SystemRow(
        whatsapp_message_id=_id(news, action, text, who, payload),
        chat=chat_of(news.chat),
        sender=person_of(news.by) if news.by and (news.by.phone_jid or news.by.lid) else None,
        from_me=news.by_me,
        action=action,
        conteudo=clean(text[:MAX_TEXT_CHARS]) if text else None,
        people=who[:MAX_PEOPLE],
        payload=known(
            reason=clean(news.reason)[:MAX_LABEL_CHARS],
            count=len(who) if len(who) > MAX_PEOPLE else None,
        )
        | payload,
        at=iso(news.at),
    )


def _people(people: list[Person]) -> list[PersonPart]:
    return [person_of(each) for each in people if each.phone_jid or each.lid]


def _subject(text: str | None) -> str | None:
    return clean(text[:MAX_LABEL_CHARS]) if text else None


def _description(text: str | None) -> str | None:
    return clean(text[:MAX_TEXT_CHARS]) if text is not None else None


def _id(
    news: GroupNews, action: str, text: str | None, who: list[PersonPart], payload: dict[str, Any]
) -> WhatsAppMessageId:
    """WhatsApp gives these no id: the same news, told again, has to find its row."""
    people = sorted(f"{each.phone_jid}|{each.lid}" for each in who)
    told = (clean(news.chat), news.version, news.at, action, text, people, sorted(payload.items()))
    digest = hashlib.sha256(repr(told).encode("utf-8", "replace")).hexdigest()
    return WhatsAppMessageId(f"system-{digest[:32]}")
