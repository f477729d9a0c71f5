"""HAProxy on loopback, in front of several MariaDB servers of which one gets all connections."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from support.mariadb import MariaDB
from support.pgbouncer import find_program
from support.ports import bind
from support.waiting import until

GUEST = "guest"


def _packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


# The login of a user without a password answers nothing of the greeting, so it is always the same bytes: the flags
# LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION and PLUGIN_AUTH, the largest packet, a character set, and the user.
LOGIN = _packet(
    1,
    (0x1 | 0x200 | 0x8000 | 0x80000).to_bytes(4, "little")
    + (1 << 24).to_bytes(4, "little")
    + bytes([45])
    + bytes(23)
    + GUEST.encode()
    + b"\0\0mysql_native_password\0",
)
ASK = _packet(0, b"\3SHOW STATUS LIKE 'wsrep_local_state_comment'")
SYNCED = b"\x06Synced"
ALONE = _packet(0, b"\3SELECT 'Synced'")
QUIT = _packet(0, b"\1")

CONFIGURATION = """\
global
    stats socket {directory}/admin level admin
    maxconn 300

defaults
    mode tcp
    retries 3
    option redispatch 1
    timeout connect 1s
    timeout client {idle}
    timeout server {idle}

listen database
    bind 127.0.0.1:{port}
    # A login, and a question that only a node that belongs to its cluster answers with "Synced".
    option tcp-check
    tcp-check connect
    tcp-check expect binary 0a
    tcp-check send-binary {login}
    tcp-check expect binary 0700000200
    tcp-check send-binary {ask}
    tcp-check expect binary {synced}
    tcp-check send-binary {quit}
    timeout check 2s
    # One writer at a time. It is given up when connecting to it fails, too, and its clients are told so at once.
    default-server check inter 500ms fastinter 100ms fall 2 rise 2 observe layer4 error-limit 1 on-error mark-down
    default-server on-marked-down shutdown-sessions
{servers}
"""


def configuration(addresses: Sequence[str], directory: object, port: int, idle: str, ask: bytes = ASK) -> str:
    """What docs/scale.md shows, too."""
    servers = [f"    server n{number} {address}" for number, address in enumerate(addresses, 1)]
    servers[1:] = [f"{line} backup" for line in servers[1:]]
    return CONFIGURATION.format(
        directory=directory,
        port=port,
        idle=idle,
        login=LOGIN.hex(),
        ask=ask.hex(),
        synced=SYNCED.hex(),
        quit=QUIT.hex(),
        servers="\n".join(servers),
    )


class HAProxy:
    """One address for several servers: the first one that is well gets all connections. A context manager, running
    within the block.

    With *galera* only a synchronised node is well. A connection on which nothing moves for *idle* is closed."""

    def __init__(self, servers: Sequence[MariaDB], idle: str = "30s", galera: bool = False) -> None:
        self.program = find_program("haproxy")
        self._reserved = bind()
        self.port: int = self._reserved.getsockname()[1]
        self.servers = list(servers)
        self.directory = Path(tempfile.mkdtemp(prefix="wsgidb-", dir="/tmp"))
        addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        self.configuration = configuration(addresses, self.directory, self.port, idle, ASK if galera else ALONE)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> HAProxy:
        file, log = self.directory / "haproxy.cfg", self.directory / "log"
        file.write_text(self.configuration)
        try:
            with log.open("ab") as out:
                # Should this process be killed, the kernel ends the proxy.
                self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", self.program, "-db", "-f", str(file)],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                )  # fmt: skip
            until(lambda: self._process is None or self._process.poll() is not None or self._listens(), 10, "HAProxy")
            assert self._process.poll() is None, f"HAProxy ended: {log.read_text()}"
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._reserved.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _listens(self) -> bool:
        try:
            return "UP" in self.states.values()
        except OSError:
            return False

    def command(self, text: str) -> str:
        """Run a command of its administrator, such as ``set server database/n1 state drain``."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(10)
            admin.connect(str(self.directory / "admin"))
            admin.sendall(f"{text}\n".encode())
            said = b""
            while part := admin.recv(65536):
                said += part
        return said.decode()

    @property
    def states(self) -> dict[str, str]:
        """What it thinks of each server: UP, DOWN, DRAIN, or one of these on its way to another."""
        lines = [line.split(",") for line in self.command("show stat").splitlines() if line.startswith("database,n")]
        return {line[1]: line[17] for line in lines}

    def wait(self, name: str, state: str) -> None:
        """Wait until it thinks that of a server."""
        until(lambda: self.states[name] == state, 30, f"{name} to be {state}")

    def url(self, user: str = "guest", query: str = "") -> str:
        parts = urlsplit(self.servers[0].url(user))
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=query).geturl()
