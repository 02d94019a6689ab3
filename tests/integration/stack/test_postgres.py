"""The PostgreSQL child: private, gone with its parent, and able to start again after anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bridge.sandbox.errors import SandboxError
from bridge.sandbox.postgres import PostgresServer, free_port, remove_data, running_postgres
from tests.fixtures.stack import eventually

PARENT = """
import sys, time
from pathlib import Path
from bridge.sandbox.postgres import running_postgres
with running_postgres(data=Path(sys.argv[1]), password="secret", durable=False) as server:
    print(server.process.pid, server.port, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def data(tmp_path: Path):
    yield tmp_path / "data"
    remove_data(tmp_path / "data")


def server_on(data: Path, **more) -> PostgresServer:
    return running_postgres(data=data, password="secret", durable=False, **more)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_it_starts_is_used_and_stops(data: Path):
    with server_on(data) as server:
        with psycopg.connect(server.url()) as connection:
            row = connection.execute("select current_setting('wal_level')").fetchone()
        assert row == ("logical",)
        assert server.process is not None
        process = server.process
    assert not is_alive(process.pid)
    server.stop()  # once more does no harm


def test_it_wants_a_password_and_listens_on_loopback_only(data: Path):
    with server_on(data) as server:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url().replace("secret", "wrong"))
        with psycopg.connect(server.url()) as connection:
            row = connection.execute(
                "select current_setting('listen_addresses'),"
                " current_setting('unix_socket_directories')"
            ).fetchone()
        assert row == ("127.0.0.1", "")


def test_a_port_in_use_is_one_clear_sentence(data: Path, tmp_path: Path):
    with server_on(data) as server:
        second = server_on(tmp_path / "second", port=server.port)
        with (
            pytest.raises(SandboxError, match=f"Port {server.port} on 127.0.0.1 is in use"),
            second,
        ):
            pass
    remove_data(tmp_path / "second")


def test_killed_with_its_parent_it_leaves_nothing_and_starts_again(data: Path):
    command = [sys.executable, "-c", PARENT, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port = (int(word) for word in parent.stdout.readline().split())
        with psycopg.connect(
            f"postgresql://postgres:secret@127.0.0.1:{port}/postgres"
        ) as connection:
            connection.execute("create table kept (x int)")
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    with server_on(data) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)


def test_a_killed_server_recovers_from_its_log(data: Path):
    with server_on(data) as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("create table kept as select 1 as x")
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        assert server.has_died()
    with server_on(data) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("select x from kept").fetchone() == (1,)


def test_half_an_initialisation_is_begun_anew(data: Path):
    (data.with_name("data.new")).mkdir(parents=True)
    (data.with_name("data.new") / "rest").touch()
    with server_on(data) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_free_port_is_taken_when_none_is_said(data: Path):
    with server_on(data) as server:
        assert server.port not in {0, free_port()}
