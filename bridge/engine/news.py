"""neonize's events of groups and calls in the words of `bridge.events`; pure, as `translate`."""

from __future__ import annotations

from typing import Any

from bridge.engine.translate import jid, person, seconds
from bridge.events import CallTold, GroupNews, Person, PictureChanged, SpooledEvent
from bridge.ids import GROUP_SERVER, server_of


def group_changed(proto: Any, own: Person) -> SpooledEvent | None:
    """A `GroupInfoEvent`; None if nothing changed that has a name here."""
    chat = jid(proto.JID)
    if chat is None:
        return None
    by, by_me = _actor(jid(proto.Sender), None, own, name=proto.Notify)
    news = GroupNews(
        chat=chat,
        at=seconds(proto.Timestamp),
        by=by,
        by_me=by_me,
        version=proto.ParticipantVersionID,
        reason=proto.JoinReason,
        subject=proto.Name.Name if proto.HasField("Name") else None,
        description=_description(proto),
        joined=_people(proto.Join, own),
        left=_people(proto.Leave, own),
        promoted=_people(proto.Promote, own),
        demoted=_people(proto.Demote, own),
        announce=proto.Announce.IsAnnounce if proto.HasField("Announce") else None,
        locked=proto.Locked.isLocked if proto.HasField("Locked") else None,
        disappearing_s=_timer(proto.Ephemeral) if proto.HasField("Ephemeral") else None,
        deleted=proto.HasField("Delete") and proto.Delete.Deleted,
    )
    return news if _says_something(news) else None


def group_joined(proto: Any, own: Person) -> SpooledEvent | None:
    """A `JoinedGroup` event: the group was made with this account, or the account was added."""
    info = proto.GroupInfo
    chat = jid(info.JID)
    if chat is None:
        return None
    is_new = proto.Type == "new"
    by, by_me = _actor(jid(proto.Sender), jid(proto.SenderPN), own)
    made_at = float(info.GroupCreated)
    return GroupNews(
        chat=chat,
        # when the account was added is not told
        at=made_at if is_new else max(made_at, seconds(info.GroupName.NameSetAt)),
        by=by,
        by_me=by_me,
        version=info.ParticipantVersionID,
        reason=proto.Reason,
        subject=info.GroupName.Name or None,
        created=is_new,
        joined=[] if is_new else [own],
    )


def picture_changed(proto: Any, own: Person) -> SpooledEvent | None:
    """A `Picture` event; None if it is the account's own picture, or nobody's."""
    of = jid(proto.JID)
    if of is None:
        return None
    if server_of(of) == GROUP_SERVER:
        by, by_me = _actor(jid(proto.Author), None, own)
        at = seconds(proto.Timestamp)
        return GroupNews(chat=of, at=at, by=by, by_me=by_me, picture=not proto.Remove)
    who, is_me = _actor(of, None, own)
    return None if who is None or is_me else PictureChanged(person=who)


def call_offered(proto: Any, own: Person) -> SpooledEvent | None:
    """A `CallOffer`: it rings."""
    tags = {node.Tag for node in proto.data.Nodes}
    return _call(proto, own, "offered", video="video" in tags)


def call_noticed(proto: Any, own: Person) -> SpooledEvent | None:
    """A `CallOfferNotice`: a group is called."""
    return _call(proto, own, "offered", video=proto.media == "video")


def call_accepted(proto: Any, own: Person) -> SpooledEvent | None:
    """A `CallAccept`: a device of the account took it."""
    return _call(proto, own, "accepted")


def call_ended(proto: Any, own: Person) -> SpooledEvent | None:
    """A `CallTerminate`."""
    return _call(proto, own, "ended", reason=proto.reason)


def _call(
    proto: Any, own: Person, state: str, *, video: bool | None = None, reason: str = ""
) -> SpooledEvent | None:
    meta = proto.basicCallMeta
    creator, alternative = jid(meta.callCreator), jid(meta.callCreatorAlt)
    caller = person(creator, alternative) or person(jid(getattr(meta, "from")))
    if caller is None or not meta.callID:
        return None
    from_me = caller.phone_jid == own.phone_jid or (bool(caller.lid) and caller.lid == own.lid)
    group = _text(proto.data, "group-jid")
    return CallTold(
        call_id=meta.callID,
        caller=caller,
        from_me=from_me,
        state=state,
        at=seconds(meta.timestamp),
        group=group if group and server_of(group) == GROUP_SERVER else None,
        video=video,
        reason=reason,
    )


def _text(node: Any, name: str) -> Any:
    """An attribute of a node, as text or address."""
    for attribute in node.Attrs:
        if attribute.name == name:
            return jid(attribute.jid) if attribute.HasField("jid") else attribute.text or None
    return None


def _actor(
    sender: Any, alternative: Any, own: Person, *, name: str = ""
) -> tuple[Person | None, bool]:
    by = person(sender, alternative, push_name=name)
    if by is None:
        return None, False
    is_me = (by.phone_jid or own.lid) == own.phone_jid or (bool(by.lid) and by.lid == own.lid)
    return (own, True) if is_me else (by, False)


def _people(protos: Any, own: Person) -> list[Person]:
    found = (_actor(jid(proto), None, own)[0] for proto in protos)
    return [each for each in found if each is not None]


def _description(proto: Any) -> str | None:
    if not proto.HasField("Topic"):
        return None
    return "" if proto.Topic.TopicDeleted else proto.Topic.Topic


def _timer(ephemeral: Any) -> int:
    return ephemeral.DisappearingTimer if ephemeral.IsEphemeral else 0


def _says_something(news: GroupNews) -> bool:
    told = (news.subject, news.description, news.announce, news.locked, news.disappearing_s)
    people = (news.joined, news.left, news.promoted, news.demoted)
    return news.deleted or any(people) or any(each is not None for each in told)
