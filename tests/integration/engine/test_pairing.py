import anyio
import pytest

from bridge import events as ev
from bridge.engine import process
from bridge.engine.host import PairByCode, PairByQr
from tests.integration.engine.driver import call, linked, opened, phone_jid

pytestmark = pytest.mark.anyio


async def test_a_scanned_qr_connects(place, phones, vault, account, owner):
    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        connected = await drive.signal(ev.Connected)

        assert connected.phone_jid == phone_jid(owner)
        assert str(connected.lid).endswith("@lid")
        assert (await call(phones.companions, owner))[0]["connected"]


async def test_a_code_typed_on_the_phone_connects(place, phones, vault, account, owner):
    async with (
        place.host() as host,
        opened(host, account, vault, pairing=PairByCode(owner)) as drive,
    ):
        shown = await drive.signal(ev.PairingCodeShown)
        assert shown.valid_s > 60
        await call(phones.link_code, owner, shown.code)
        await drive.signal(ev.Connected)

        assert not [signal for signal in drive.signals if isinstance(signal, ev.QrShown)]


async def test_an_expired_qr_ends_the_session_and_the_engine_is_replaced(
    place, phones, vault, account, owner, monkeypatch
):
    monkeypatch.setattr(process, "SPENT", 10)
    async with place.host(pairing_timeout_s=4.0, ping_interval_s=0.2) as host:
        async with opened(host, account, vault, pairing=PairByQr()) as drive:
            failed = await drive.signal(ev.PairingFailed)
            assert failed.code == "qr_expired"
            engine = drive.session._engine
            with anyio.fail_after(60):
                while engine.spent < 10:
                    await anyio.sleep(0.02)
            assert engine.alive
        with anyio.fail_after(20):
            while engine.alive:
                await anyio.sleep(0.02)

        async with linked(host, account, vault, phones, owner) as drive:
            assert drive.engine_pid != engine.pid


async def test_a_connection_lost_while_the_qr_is_shown_ends_the_session(
    place, phones, vault, account
):
    async with place.host() as host, opened(host, account, vault, pairing=PairByQr()) as drive:
        await drive.signal(ev.QrShown)
        await call(phones.start_fault, "drop")

        assert (await drive.signal(ev.PairingFailed)).code == "qr_expired"


async def test_two_accounts_show_their_qr_at_the_same_time(place, vault, account, phones, owner):
    async with place.host() as host, opened(host, account, vault, pairing=PairByQr()) as first:
        await first.signal(ev.QrShown)
        async with linked(host, "other", vault, phones, owner) as second:
            assert second.engine_pid == first.engine_pid
        assert not [s for s in first.signals if not isinstance(s, ev.QrShown)]


async def test_giving_up_before_anybody_scanned_leaves_the_engine_usable(
    place, phones, vault, account, owner
):
    async with place.host() as host:
        async with opened(host, "other", vault, pairing=PairByQr()) as given_up:
            await given_up.signal(ev.QrShown)
        async with linked(host, account, vault, phones, owner):
            pass
