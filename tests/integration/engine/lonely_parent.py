"""A bridge that confirms nothing, to be killed: prints QR and engine, then positions."""

import sys
from pathlib import Path

import anyio

from bridge.engine.host import EngineHost, EngineSettings, PairByQr
from bridge.events import Connected, MessageReceived, QrShown
from bridge.ids import AccountId, LeaseEpoch
from bridge.vault import Vault


async def main(*arguments: str) -> None:
    state, sessions, trust, account, durability, proxy = arguments
    settings = EngineSettings(
        command=[sys.executable, "-m", "bridge.sandbox.engine", trust],
        state_dir=Path(state),
        session_dir=Path(sessions),
        proxy=proxy,
    )
    async with EngineHost(settings) as host:
        session = await host.open(
            AccountId(account),
            LeaseEpoch(1),
            vault=Vault.from_secret("a secret for engine tests"),
            image=None,
            pairing=PairByQr(),
            strict=durability == "strict",
        )
        async for signal in session.signals:
            if isinstance(signal, QrShown):
                print(signal.text, session._engine.pid, flush=True)
            if isinstance(signal, Connected):
                print("connected", flush=True)
                break
        async for delivery in session.deliveries:
            if isinstance(delivery.event, MessageReceived):
                print(delivery.position, flush=True)


anyio.run(main, *sys.argv[1:7])
