"""The peer of `main_job`: neonize alone. Reads texts to send, prints JSON lines."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bridge.sandbox import trust


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def main() -> None:
    simulator = trust.Trust.read(Path(sys.argv[1]))
    trust.start_with_environment(simulator)
    trust.install(simulator)
    from neonize.client import NewClient  # noqa: PLC0415
    from neonize.events import ConnectedEv, MessageEv  # noqa: PLC0415
    from neonize.utils.jid import build_jid  # noqa: PLC0415

    ram = "/dev/shm" if Path("/dev/shm").is_dir() else None  # as the bridge does
    with tempfile.TemporaryDirectory(dir=ram) as scratch:
        client = NewClient(f"{scratch}/session.db", uuid="bare")
        connected = threading.Event()
        client.qr(lambda _, qr: say(qr=qr.decode()))

        def on_connected(*_: Any) -> None:
            say(connected=True)
            connected.set()

        client.event(ConnectedEv)(on_connected)

        def on_message(_: Any, event: Any) -> None:
            if event.Message.conversation or event.Message.extendedTextMessage.text:
                say(message=time.time())

        client.event(MessageEv)(on_message)
        threading.Thread(target=client.connect, daemon=True).start()
        connected.wait(60)
        customer = build_jid(sys.argv[2])
        for line in sys.stdin:
            client.send_message(customer, line.strip())
            say(sent=time.time())
        os._exit(0)


if __name__ == "__main__":
    main()
