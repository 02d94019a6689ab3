import anyio
import pytest

from bridge import events as ev
from bridge.engine.files import USE_LOCAL
from bridge.engine.host import PairByQr
from bridge.errors import AccountError, CommandError
from bridge.orders import Logout
from bridge.vault import Vault
from tests.integration.engine.driver import call, linked, opened

pytestmark = pytest.mark.anyio


async def ended(drive):
    return await drive.signal(ev.SessionEnded)


async def test_logout_unlinks_the_device(place, phones, vault, account, owner):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner) as drive:
            await drive.session.ask(Logout())

            assert (await ended(drive)).code == "logged_out"
            assert await call(phones.companions, owner) == []
            with pytest.raises(CommandError):
                await drive.session.ask(Logout())
        await drive.session.forget()
        assert host.files.local_state(account) is None


async def test_unlinking_on_the_phone_ends_the_session(place, phones, vault, account, owner):
    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        await call(phones.unlink, owner)

        assert (await ended(drive)).code == "logged_out"


@pytest.mark.parametrize(
    ("fault", "code"), [("replace", "replaced"), ("ban", "banned"), ("outdated", "outdated")]
)
async def test_final_ends_are_told_apart(place, phones, vault, account, owner, fault, code):
    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        await call(phones.start_fault, fault, number=owner, for_s=60)
        if fault != "replace":
            await call(phones.start_fault, "drop", number=owner)

        end = await ended(drive)

        assert end.code == code
        if code == "banned":
            assert end.retry_after_s


async def test_a_dropped_connection_comes_back_by_itself(place, phones, vault, account, owner, ana):
    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        await call(phones.start_fault, "drop", number=owner)
        await drive.signal(ev.Disconnected)
        await drive.until(drive.is_connected)
        await drive.send(ana, "still here")


async def test_whatsapp_out_of_reach_is_told_and_not_tried_for_ever(
    place, phones, vault, account, owner
):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner):
            pass
        await call(phones.start_fault, "service_unavailable", for_s=60)
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            assert (await ended(drive)).code == "unreachable"
        await call(phones.clear_faults)
        async with opened(host, account, vault, epoch=3, image=USE_LOCAL) as drive:
            await drive.signal(ev.Connected)


async def test_a_silent_whatsapp_is_unreachable(place, phones, vault, account, owner):
    async with place.host(connect_timeout_s=4.0) as host:
        async with linked(host, account, vault, phones, owner):
            pass
        await call(phones.start_fault, "deaf", number=owner, for_s=30)
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            assert (await ended(drive)).code == "unreachable"


async def test_a_lease_that_is_not_extended_ends_the_session(place, phones, vault, account, owner):
    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        await drive.session.extend_lease(30)
        await drive.session.extend_lease(0.3)

        assert (await ended(drive)).code == "lease_expired"
        with anyio.fail_after(60):
            while (await call(phones.companions, owner))[0]["connected"]:
                await anyio.sleep(0.02)


async def test_a_graceful_end_hands_everything_over(place, phones, vault, account, owner, ana):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner) as drive:
            for index in range(30):
                await call(phones.send_text, ana, owner, f"late {index}")
            await drive.session.disconnect()
            with anyio.fail_after(60):
                await drive.drained.wait()
            here = drive.texts
        assert not await host.files.has_unrecorded_events(account)
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            await drive.until(lambda: len({*here, *drive.texts}) == 30)
            assert sorted({*here, *drive.texts}) == sorted(f"late {i}" for i in range(30))


async def test_an_account_has_one_session_at_a_time(place, vault, account):
    async with place.host() as host, opened(host, account, vault, pairing=PairByQr()):
        with pytest.raises(AccountError) as caught:
            await host.open(account, 2, vault=vault, image=None, pairing=PairByQr())
        assert caught.value.code == "already_open"


async def test_a_wrong_key_is_reported_and_nothing_lost(place, phones, vault, account, owner, ana):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, confirming=False) as drive:
            await call(phones.send_text, ana, owner, "sealed")
            await drive.text("sealed")
        other = Vault.from_secret("not the secret that sealed it")
        with pytest.raises(AccountError) as caught:
            await host.open(account, 2, vault=other, image=USE_LOCAL)
        assert caught.value.code == "key_unknown"

        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            await drive.text("sealed")


async def test_a_spool_can_be_replayed_without_connecting(
    place, phones, vault, account, owner, ana
):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, confirming=False) as drive:
            await call(phones.send_text, ana, owner, "left over")
            await drive.text("left over")
        async with opened(host, account, vault, epoch=2) as drive:
            await drive.text("left over")
            await drive.session.disconnect()
            await drive.drained.wait()
        assert not await host.files.has_unrecorded_events(account)
        assert not (await call(phones.companions, owner))[0]["connected"]


async def test_the_window_bounds_what_is_given_out(place, phones, vault, account, owner, ana):
    async with (
        place.host(window=5) as host,
        linked(host, account, vault, phones, owner, confirming=False) as drive,
    ):
        for index in range(12):
            await call(phones.send_text, ana, owner, f"w{index}")
        await drive.until(lambda: len(drive.deliveries) == 5)
        await drive.session.confirm(drive.deliveries[-1].position)
        await drive.until(lambda: len(drive.deliveries) == 10)
        await drive.session.confirm(drive.deliveries[-1].position)
        await drive.text("w11")
        assert drive.texts == [f"w{index}" for index in range(12)]


async def test_without_an_engine_opening_fails_with_a_sentence(place, vault, account):
    async with place.host(command=["false"]) as host:
        with pytest.raises(AccountError) as caught:
            await host.open(account, 1, vault=vault, image=None, pairing=PairByQr())
        assert caught.value.code == "engine_died"
