"""What the server keeps about accounts, their devices and groups. Plain data, written to disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec.nodes import JID, LID_SERVER
from bridge.sandbox.whatsapp.server.app_state import Collection

MAX_COMPANIONS = 4


@dataclass(slots=True)
class SignedPreKey:
    """The prekey that is handed out again and again; signed by the device's identity."""

    id: int
    public: bytes
    signature: bytes


@dataclass(slots=True)
class Device:
    """Device 0 is the phone, the others are companions.

    Attributes:
        number, lid_user: of the account it belongs to.
        noise_static: the key it logs in with; empty for a phone.
        adv_details: what the phone signed about it.
        signed_identity: what the companion signed in return; others get it in device lists.
        prekeys: one-time prekeys that were not handed out yet, public halves by id.
        ready: it has been active once since it was linked.
    """

    number: str
    lid_user: str
    id: int
    identity: bytes
    registration_id: int
    signed_prekey: SignedPreKey
    noise_static: bytes = b""
    adv_details: bytes = b""
    signed_identity: bytes = b""
    prekeys: dict[int, bytes] = field(default_factory=dict)
    ready: bool = False
    platform: str = ""

    @property
    def address(self) -> str:
        """Key of this device in every table of the simulator."""
        return f"{self.number}:{self.id}"

    @property
    def pn(self) -> JID:
        """Address by phone number."""
        return JID(self.number, device=self.id)

    @property
    def lid(self) -> JID:
        """Address that hides the phone number."""
        return JID(self.lid_user, LID_SERVER, self.id)

    def jid(self, like: JID | str) -> JID:
        """This device's address of the same kind as another (or as a server's name)."""
        server = like if isinstance(like, str) else like.server
        return self.lid if server == LID_SERVER else self.pn


@dataclass(slots=True)
class Account:
    """A WhatsApp user.

    Attributes:
        picture_hidden_from: numbers that its privacy settings do not show the picture.
        picture_watchers: numbers that asked for the picture, and are told when it changes.
        business_name: of a business account, verified by WhatsApp; empty otherwise.
    """

    number: str
    lid_user: str
    name: str = ""
    about: str = ""
    identity: bytes = b""
    devices: dict[int, Device] = field(default_factory=dict)
    next_device: int = 1
    picture: bytes = b""
    picture_hidden_from: list[str] = field(default_factory=list)
    picture_watchers: list[str] = field(default_factory=list)
    business_name: str = ""
    blocked: list[str] = field(default_factory=list)
    available: bool = False
    app_state: dict[str, Collection] = field(default_factory=dict)

    @property
    def pn(self) -> JID:
        """Address by phone number."""
        return JID(self.number)

    @property
    def lid(self) -> JID:
        """Address that hides the phone number."""
        return JID(self.lid_user, LID_SERVER)

    def jid(self, like: JID | str) -> JID:
        """This account's address of the same kind as another (or as a server's name)."""
        server = like if isinstance(like, str) else like.server
        return self.lid if server == LID_SERVER else self.pn

    def companions(self) -> list[Device]:
        """All devices but the phone."""
        return [device for device in self.devices.values() if device.id]


@dataclass(slots=True)
class Group:
    """A group; ``members``, ``owner`` and ``admins`` are numbers, ``addressing`` is `lid` or `pn`.

    Attributes:
        announce: only admins may write.
        locked: only admins may change what is said about the group.
        invite: code of the link to join; empty until somebody asks for it.
    """

    id: str
    subject: str
    owner: str
    members: list[str]
    addressing: str = LID_SERVER
    created_at: int = field(default_factory=lambda: int(time.time()))
    subject_at: int = field(default_factory=lambda: int(time.time()))
    admins: list[str] = field(default_factory=list)
    description: str = ""
    description_id: str = ""
    description_at: int = 0
    announce: bool = False
    locked: bool = False
    invite: str = ""
    picture: bytes = b""

    def is_admin(self, number: str) -> bool:
        """Whether somebody may change who is in it."""
        return number == self.owner or number in self.admins

    @property
    def jid(self) -> JID:
        """Address of the group."""
        return JID(self.id, "g.us")
