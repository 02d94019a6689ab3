"""Groups and calls, out of neonize's protobufs."""

from typing import Any

from bridge.engine import news as translations
from bridge.events import CallTold, GroupNews, Person, PictureChanged
from bridge.ids import Jid
from tests.unit.engine.protobufs import wire

news: Any = translations
OWN = Person(phone_jid=Jid("1@s.whatsapp.net"), lid=Jid("100@lid"))
ANA = Person(lid=Jid("200@lid"))


def address(text):
    user, server = text.split("@")
    return wire.JID(User=user, Server=server, Device=0, RawAgent=0, Integrator=0, IsEmpty=False)


def changed(**fields):
    fields = {"Sender": address("200@lid"), "Timestamp": 1_700_000_000} | fields
    return news.group_changed(wire.GroupInfoEvent(JID=address("9@g.us"), **fields), OWN)


def test_a_new_subject_names_who_gave_it():
    assert changed(Name=wire.GroupName(Name="Sales")) == GroupNews(
        chat=Jid("9@g.us"), at=1_700_000_000.0, by=ANA, subject="Sales"
    )


def test_who_changes_a_group_is_named():
    assert changed(Name=wire.GroupName(Name="x"), Notify="Ana").by.push_name == "Ana"


def test_a_change_without_a_name_here_is_nothing():
    assert changed() is None
    assert changed(NewInviteLink="x") is None


def test_oneself_is_recognised_by_either_address():
    told = changed(Leave=[address("100@lid")], Sender=address("1@s.whatsapp.net"))
    assert (told.left, told.by, told.by_me) == ([OWN], OWN, True)


def test_everything_about_a_group_has_its_field():
    told = changed(
        Topic=wire.GroupTopic(Topic="", TopicDeleted=True),
        Join=[address("200@lid")],
        Promote=[address("300@lid")],
        Demote=[address("400@s.whatsapp.net")],
        Announce=wire.GroupAnnounce(IsAnnounce=True),
        Locked=wire.GroupLocked(isLocked=False),
        Ephemeral=wire.GroupEphemeral(IsEphemeral=True, DisappearingTimer=86400),
        JoinReason="invite",
        ParticipantVersionID="7",
    )
    assert (told.description, told.joined, told.promoted) == (
        "",
        [ANA],
        [Person(lid=Jid("300@lid"))],
    )
    assert told.demoted == [Person(phone_jid=Jid("400@s.whatsapp.net"))]
    assert (told.announce, told.locked, told.disappearing_s) == (True, False, 86400)
    assert (told.reason, told.version) == ("invite", "7")


def test_a_group_that_is_made_and_one_that_is_joined():
    info = wire.GroupInfo(
        JID=address("9@g.us"), GroupName=wire.GroupName(Name="Sales"), GroupCreated=1.0
    )
    made = news.group_joined(wire.JoinedGroup(GroupInfo=info, Type="new"), OWN)
    joined = news.group_joined(wire.JoinedGroup(GroupInfo=info, SenderPN=address("5@lid")), OWN)
    assert (made.created, made.subject, made.joined) == (True, "Sales", [])
    assert (joined.created, joined.subject, joined.joined) == (False, "Sales", [OWN])


def meta(creator="200@lid", **more):
    return wire.BasicCallMeta(
        callCreator=address(creator), timestamp=1_700_000_000, callID="C1", **more
    )


def test_a_call_rings_and_ends():
    offer = wire.CallOffer(basicCallMeta=meta(), data=wire.Node(Nodes=[wire.Node(Tag="video")]))
    end = wire.CallTerminate(basicCallMeta=meta(), reason="timeout")
    assert news.call_offered(offer, OWN) == CallTold(
        call_id="C1", caller=ANA, from_me=False, state="offered", at=1_700_000_000.0, video=True
    )
    told = news.call_ended(end, OWN)
    assert (told.state, told.reason, told.video) == ("ended", "timeout", None)


def test_an_own_call_is_one():
    assert news.call_accepted(wire.CallAccept(basicCallMeta=meta("100@lid")), OWN).from_me


def test_a_call_of_a_group_names_it():
    data = wire.Node(Attrs=[wire.NodeAttrs(name="group-jid", jid=address("9@g.us"))])
    notice = wire.CallOfferNotice(basicCallMeta=meta(), media="video", type="group", data=data)
    told = news.call_noticed(notice, OWN)
    assert (told.group, told.video) == ("9@g.us", True)


def test_a_new_picture_of_a_person_and_of_a_group():
    person = news.picture_changed(wire.Picture(JID=address("200@lid")), OWN)
    assert person == PictureChanged(person=ANA)
    group = wire.Picture(
        JID=address("9@g.us"), Author=address("200@lid"), Timestamp=1_700_000_000, Remove=True
    )
    told = news.picture_changed(group, OWN)
    assert (told.chat, told.by, told.picture, told.at) == ("9@g.us", ANA, False, 1_700_000_000.0)
    assert news.picture_changed(wire.Picture(JID=address("100@lid")), OWN) is None
