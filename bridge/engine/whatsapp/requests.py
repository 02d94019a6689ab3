"""What is asked of WhatsApp beside sending: each request as calls of neonize's client.

Runs in engine processes, inside the gate. A failure is a `NeonizeError` with whatsmeow's sentence,
which `whatsapp.Client.do` turns into `RequestFailed`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neonize.client import NewClient
from neonize.exc import GetGroupInfoError, GetJIDFromStoreError, GetProfilePictureError
from neonize.utils.enum import (
    BlocklistAction,
    ChatPresence,
    ChatPresenceMedia,
    ParticipantChange,
    Presence,
    ReceiptType,
)

from bridge.engine import translate
from bridge.engine.whatsapp.address import address_of
from bridge.ids import LID_SERVER, PHONE_SERVER, Jid, server_of
from bridge.orders import (
    AskBlocklist,
    AskChats,
    AskGroup,
    AskInvite,
    AskPerson,
    Block,
    ChangeGroup,
    ChangeParticipants,
    CheckNumbers,
    CreateGroup,
    FetchPicture,
    LeaveGroup,
    Logout,
    MarkRead,
    RejectCall,
    Request,
    SetProfile,
    ShowOnline,
    ShowTyping,
)

_TEXT = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
_AUDIO = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_AUDIO
_PRESENCES = {
    "composing": (ChatPresence.CHAT_PRESENCE_COMPOSING, _TEXT),
    "recording": (ChatPresence.CHAT_PRESENCE_COMPOSING, _AUDIO),
    "paused": (ChatPresence.CHAT_PRESENCE_PAUSED, _TEXT),
}
# whatsmeow errors.go
_NO_PICTURE, _HIDDEN_PICTURE = "does not have a profile picture", "has hidden their profile picture"
# whatsmeow group.go: no such group, or not (any more) in it
_NO_SUCH_GROUP = ("not participating in that group", "group does not exist")


def perform(client: NewClient, order: Request) -> Any:
    """Do it; gives what the order says it answers.

    :raises NeonizeError: if WhatsApp or the library refuses.
    """
    match order:
        case MarkRead():
            client.mark_read(
                *order.ids,
                chat=address_of(order.chat),
                sender=address_of(order.sender),
                receipt=ReceiptType.READ,
                timestamp=int(order.at),
            )
        case ShowTyping():
            client.send_chat_presence(address_of(order.chat), *_PRESENCES[order.state])
        case ShowOnline():
            client.send_presence(Presence.AVAILABLE)
        case SetProfile():
            _set_profile(client, order)
        case Block():
            action = BlocklistAction.BLOCK if order.blocked else BlocklistAction.UNBLOCK
            client.update_blocklist(address_of(order.person), action)
        case RejectCall():
            client.reject_call(address_of(order.caller), order.call_id)
        case Logout():
            client.logout()
        case _:
            return _ask_of_people(client, order)
    return None


def _ask_of_people(client: NewClient, order: Request) -> Any:
    match order:
        case CheckNumbers():
            return _check_numbers(client, order)
        case FetchPicture():
            return _ask_picture(client, order.of)
        case AskPerson():
            return _ask_person(client, order.person)
        case AskBlocklist():
            jids = map(translate.jid, client.get_blocklist().JIDs)
            return [_addresses_of(client, jid) for jid in jids if jid is not None]
        case AskChats():
            return [_settings_of(client, jids) for jids in order.chats]
        case _:
            return _perform_on_group(client, order)


def _perform_on_group(client: NewClient, order: Request) -> Any:
    match order:
        case AskGroup():
            return _ask_group(client, order)
        case CreateGroup():
            info = client.create_group(order.subject, [address_of(p) for p in order.participants])
            return {"jid": translate.jid(info.JID), **_of_group(info)}
        case ChangeGroup():
            _change_group(client, order)
        case ChangeParticipants():
            changed = client.update_group_participants(
                address_of(order.chat),
                [address_of(p) for p in order.participants],
                ParticipantChange(order.action),
            )
            return [_of_change(participant) for participant in changed]
        case AskInvite():
            link = client.get_group_invite_link(address_of(order.chat), revoke=order.revoke)
            return {"link": link}
        case LeaveGroup():
            client.leave_group(address_of(order.chat))
        case _:
            raise NotImplementedError(type(order).__name__)
    return None


def _check_numbers(client: NewClient, order: CheckNumbers) -> list[dict[str, Any]]:
    answers = client.is_on_whatsapp(*(f"+{number}" for number in order.numbers))
    found = {answer.Query.lstrip("+"): answer for answer in answers if answer.IsIn}
    result: list[dict[str, Any]] = []
    for number in order.numbers:
        answer = found.get(number)
        jid = None if answer is None else translate.jid(answer.JID)
        result.append({"number": number, **_both_addresses(client, jid, number)})
    return result


def _both_addresses(client: NewClient, jid: Jid | None, number: str) -> dict[str, Jid | None]:
    """WhatsApp names people by LID now; with the answer it tells whose number that is."""
    if jid is None:
        return {"jid": None, "lid": None}
    known = _addresses_of(client, jid)
    return {"jid": known["phone_jid"] or Jid(f"{number}@{PHONE_SERVER}"), "lid": known["lid"]}


def _addresses_of(client: NewClient, jid: Jid) -> dict[str, Jid | None]:
    """As far as this device has learnt them."""
    if server_of(jid) != LID_SERVER:
        return {"phone_jid": jid, "lid": _lid_of(client, jid)}
    try:
        phone = translate.jid(client.get_pn_from_lid(address_of(jid)))
    except GetJIDFromStoreError:
        phone = None
    return {"phone_jid": phone, "lid": jid}


def _settings_of(client: NewClient, jids: list[Jid]) -> dict[str, Any] | None:
    for jid in jids:
        told = client.chat_settings.get_chat_settings(address_of(jid))
        if told.Found:
            muted = told.MutedUntil if told.MutedUntil > 0 else None  # Go's zero is in the year 1
            return {"archived": told.Archived, "pinned": told.Pinned, "muted_until": muted}
    return None


def _lid_of(client: NewClient, jid: Jid) -> Jid | None:
    if server_of(jid) != PHONE_SERVER:
        return None
    try:
        return translate.jid(client.get_lid_from_pn(address_of(jid)))
    except GetJIDFromStoreError:
        return None


def _ask_picture(client: NewClient, of: Jid) -> dict[str, Any]:
    """Where the picture is: `{state, id, url}`.

    The id that is known is not sent along: neonize has no answer for "unchanged".
    """
    try:
        picture = client.get_profile_picture(address_of(of))
    except GetProfilePictureError as error:
        if _NO_PICTURE in str(error):
            return {"state": "none"}
        if _HIDDEN_PICTURE in str(error):
            return {"state": "hidden"}
        raise
    return {"state": "there", "id": picture.ID, "url": picture.URL}


def _ask_person(client: NewClient, person: Jid) -> dict[str, Any]:
    told = next((each.UserInfo for each in client.get_user_info(address_of(person))), None)
    contact = client.contact.get_contact(address_of(person))
    verified = told.VerifiedName.Details.verifiedName if told is not None else ""
    return {
        "push_name": contact.PushName or None,
        "business_name": verified or contact.BusinessName or None,
        "about": (told.Status if told is not None else "") or None,
    }


def _set_profile(client: NewClient, order: SetProfile) -> None:
    if order.name is not None:
        client.set_profile_name(order.name)
    if order.status is not None:
        client.set_status_message(order.status)
    if order.picture_path is not None:
        client.set_profile_photo(Path(order.picture_path).read_bytes())


def _ask_group(client: NewClient, order: AskGroup) -> dict[str, Any] | None:
    try:
        return _of_group(client.get_group_info(address_of(order.chat)))
    except GetGroupInfoError as error:
        if any(sign in str(error) for sign in _NO_SUCH_GROUP):
            return None
        raise


def _change_group(client: NewClient, order: ChangeGroup) -> None:
    group = address_of(order.chat)
    if order.subject is not None:
        client.set_group_name(group, order.subject)
    if order.description is not None:
        client.set_group_topic(group, "", "", order.description)  # whatsmeow finds the ids
    if order.announce is not None:
        client.set_group_announce(group, order.announce)
    if order.locked is not None:
        client.set_group_locked(group, order.locked)
    if order.picture_path is not None:
        client.set_group_photo(group, Path(order.picture_path).read_bytes())


def _of_group(info: Any) -> dict[str, Any]:
    return {
        "subject": info.GroupName.Name or None,
        "description": info.GroupTopic.Topic or None,
        "announce": info.GroupAnnounce.IsAnnounce,
        "locked": info.GroupLocked.isLocked,
        "participants": [
            {**_of_participant(p), "admin": p.IsAdmin or p.IsSuperAdmin} for p in info.Participants
        ],
    }


def _of_participant(participant: Any) -> dict[str, Any]:
    addresses = [translate.jid(p) for p in (participant.JID, participant.PhoneNumber)]
    lids = [*addresses, translate.jid(participant.LID)]
    return {
        "jid": addresses[0],
        "phone_jid": next((a for a in addresses if a and server_of(a) == PHONE_SERVER), None),
        "lid": next((a for a in lids if a and server_of(a) == LID_SERVER), None),
    }


def _of_change(participant: Any) -> dict[str, Any]:
    return {
        **_of_participant(participant),
        "ok": participant.Error == 0,
        "code": participant.Error or None,
        # whom privacy settings protect from being added can be sent an invitation
        "invite_code": participant.AddRequest.Code or None,
    }
