"""Mail and keys of a device, without a network."""

from __future__ import annotations

from bridge.sandbox.whatsapp.codec.nodes import JID, Node
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Device, SignedPreKey
from bridge.sandbox.whatsapp.server.requests.keys import hand_out_bundle


class Endpoint:
    def __init__(self) -> None:
        self.got: list[Node] = []

    def deliver(self, node: Node) -> None:
        self.got.append(node)

    def ids(self) -> list[str]:
        return [node.get("id") for node in self.got if node.tag != "ib"]


def _device(prekeys: int = 0) -> Device:
    keys = {number: bytes([number]) * 32 for number in range(1, prekeys + 1)}
    signed = SignedPreKey(1, bytes(32), bytes(64))
    return Device("5511", "99", 1, bytes(32), 7, signed, prekeys=keys)


def _message(id_: str) -> Node:
    return Node("message", {"id": id_, "from": JID("1")})


def test_mail_waits_until_the_device_is_active_and_keeps_its_order() -> None:
    post, device, endpoint = PostOffice(), _device(), Endpoint()
    post.deliver(device, _message("a"))
    post.attach(device, endpoint)
    post.deliver(device, _message("b"))
    assert endpoint.ids() == []

    post.activate(device)

    assert endpoint.ids() == ["a", "b"]
    assert [node.get("offline") for node in endpoint.got[1:3]] == ["0", "1"]
    assert endpoint.got[0].need("offline_preview").get("message") == "2"
    assert endpoint.got[-1].need("offline").get("count") == "2"


def test_what_was_not_acknowledged_comes_again_first() -> None:
    post, device, first, second = PostOffice(), _device(), Endpoint(), Endpoint()
    post.attach(device, first, active=True)
    for id_ in "abc":
        post.deliver(device, _message(id_))
    post.acknowledge(device, "message", "b", Node("receipt", {"id": "b"}))
    post.detach(device, first)
    post.deliver(device, _message("d"))

    post.attach(device, second)
    post.activate(device)

    assert second.ids() == ["a", "c", "d"]


def test_receipts_of_several_people_for_one_message_are_acknowledged_one_by_one() -> None:
    post, device, endpoint = PostOffice(), _device(), Endpoint()
    post.attach(device, endpoint, active=True)
    readers = [JID("1", "lid"), JID("2", "lid")]
    for reader in readers:
        post.deliver(device, Node("receipt", {"id": "m", "participant": reader, "type": "read"}))

    ack = Node("ack", {"id": "m", "participant": readers[1], "type": "read"})
    post.acknowledge(device, "receipt", "m", ack)

    [left] = post.mailbox(device).pending()
    assert left.jid("participant") == readers[0]


def test_a_late_end_of_an_old_connection_leaves_the_new_one() -> None:
    post, device, old, new = PostOffice(), _device(), Endpoint(), Endpoint()
    post.attach(device, old, active=True)
    post.attach(device, new, active=True)

    post.detach(device, old)

    assert post.endpoint(device) is new


def test_one_time_prekeys_are_handed_out_once_and_running_out_is_told() -> None:
    directory, post, endpoint = Directory(), PostOffice(), Endpoint()
    device = _device(prekeys=12)
    post.attach(device, endpoint, active=True)

    bundles = [hand_out_bundle(device, directory, post) for _ in range(14)]

    keys = [node.need("id").number() for nodes in bundles for node in nodes if node.tag == "key"]
    assert keys == list(range(1, 13))
    told = [node.need("count").get("value") for node in endpoint.got]
    assert told == [str(left) for left in (*range(9, -1, -1), 0, 0)]
