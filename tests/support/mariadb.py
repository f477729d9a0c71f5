"""A private MariaDB server that a test may stop, kill, freeze and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pymysql
import pytest

from support.datadir import FAST, hand_over, make_datadir, run_as
from support.ports import bind
from support.processes import freeze
from support.waiting import until

# Ends the server and removes its directory when this process died without doing so (SIGKILL, or a
# CI's timeout: nobody runs finalizers then). The look at the command line is for a recycled pid.
GUARD = """
cat; pid=$(cat "$0/pid" 2>/dev/null)
[ -n "$pid" ] && grep -qa -- "--datadir=$0/" "/proc/$pid/cmdline" && kill -KILL "$pid" && sleep 1
rm -rf -- "$0"
"""

PASSWORDS = {"root": "", "guest": "", "app": "p@ss/w%rd:x"}


def find_mariadbd() -> str:
    """The server program; without it a loud skip, and a failure in CI, where skipping would hide everything."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/libexec", "/usr/local/sbin"])
    if found := shutil.which("mariadbd", path=path):
        return found
    message = "no mariadbd here: install a MariaDB server (Debian: apt-get install mariadb-server-core)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def tls_files(directory: Path, *names: str) -> tuple[Path, Path, Path]:
    """Make a throwaway authority and a server certificate for *names*; returns the paths (ca, cert, key)."""
    import trustme  # here, so that only tests of TLS need it

    authority = trustme.CA()
    server = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    ca, cert, key = directory / "ca.pem", directory / "cert.pem", directory / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(str(key))
    return ca, cert, key


class MariaDB:
    """One server on loopback: own data, port and socket, and superuser ``root`` without a password.

    *args* go to the server as they are (``"--ssl-ca=…"``), *variables* as ``--name=value``. With
    *tls* it has a certificate for 127.0.0.1 and localhost, signed by the authority in ``.ca``;
    otherwise it offers no TLS at all. Users ``guest`` (no password) and ``app`` (a nasty one) own
    database ``test`` and nothing else. Not started yet; ``with MariaDB() as server`` starts and closes it.
    """

    def __init__(self, *args: str, tls: bool = False, **variables: object) -> None:
        self.mariadbd = find_mariadbd()
        # Held for as long as this object lives, so that the port is still free after a restart.
        self._reserved = bind()
        # Always /tmp: $TMPDIR may be too long for a socket's 107 bytes, or closed to the server's user.
        self.directory = Path(tempfile.mkdtemp(prefix="wsgidb-", dir="/tmp"))
        self.port: int = self._reserved.getsockname()[1]
        self.socket = str(self.directory / "s")
        self.ca: Path | None = None
        self.options = [*args, *(f"--{name}={_text(value)}" for name, value in variables.items())]
        self._process: subprocess.Popen[bytes] | None = None
        guard = ["/bin/sh", "-c", GUARD, str(self.directory)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            make_datadir(self.mariadbd, self.directory / "data")
            if tls:
                self.ca, cert, key = tls_files(self.directory)
                self.options = [f"--ssl-ca={self.ca}", f"--ssl-cert={cert}", f"--ssl-key={key}", *self.options]
            else:
                self.options = ["--skip-ssl", *self.options]
            hand_over(self.directory)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> MariaDB:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "never started"
        return self._process.pid

    def start(self, timeout: float = 30) -> None:
        """Start, unless it runs already, and return when it accepts a login."""
        if self.running:
            return
        log = self.directory / "error.log"
        command = [self.mariadbd, "--no-defaults", f"--datadir={self.directory / 'data'}", f"--port={self.port}"]
        # A server that starts clears its tmpdir of temporary tables: a common one would lose those of other servers.
        command += [f"--tmpdir={self.directory / 'data'}", f"--socket={self.socket}"]
        command += [f"--pid-file={self.directory / 'pid'}", "--bind-address=127.0.0.1"]
        command += ["--event-scheduler=OFF", "--max-connect-errors=1000000", "--open-files-limit=1024", *FAST]
        if user := run_as():
            command.append(f"--user={user}")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, *self.options], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "ended" if ended else f"did not accept a login in {timeout:g} s"
                self.kill()
                tail = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"MariaDB {why}; options {self.options}; the end of its log:\n{tail}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            self._connect(timeout=1).close()
        except pymysql.Error:
            return False
        return True

    def stop(self) -> None:
        """Shut down politely; clients are told, and everything is on disk when this returns."""
        if self._process is not None and self.running:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def restart(self) -> None:
        """Stop and start, on the same port and with the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End at once, as a crash or the OOM killer would: clients see a reset."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Hang the server: the kernel still accepts connections, nobody answers."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("only a running server can be frozen")
        freeze(self._process.pid)

    def thaw(self) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server, whatever state it is in, and remove all it left. Nobody needs its data any more."""
        self.kill()
        self._reserved.close()
        self._guard.communicate()  # it finds no server, and removes the directory

    def url(self, user: str = "guest", database: str = "test", password: str | None = None, **query: object) -> str:
        """``mysql+pymysql://user:password@127.0.0.1:port/database?…``, percent-encoded; known users' passwords are."""
        secret = PASSWORDS.get(user, "") if password is None else password
        login = quote(user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        tail = f"?{urlencode({name: _text(value) for name, value in query.items()})}" if query else ""
        return f"mysql+pymysql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}{tail}"

    def _connect(self, timeout: float = 10) -> pymysql.Connection[Any]:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", autocommit=True, ssl_disabled=True,
            connect_timeout=timeout, read_timeout=timeout, write_timeout=timeout,
        )  # fmt: skip

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """The rows of one statement, run in database ``test`` by the superuser on a connection of its own."""
        connection = self._connect()
        try:
            connection.select_db("test")
            with connection.cursor() as cursor:
                cursor.execute(sql, args or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def execute(self, sql: str, *args: object) -> int:
        """Run one statement like `query` and return the number of rows it changed."""
        connection = self._connect()
        try:
            connection.select_db("test")
            with connection.cursor() as cursor:
                cursor.execute(sql, args or None)
                return int(cursor.rowcount)
        finally:
            connection.close()

    def status(self, name: str) -> int:
        """One value of SHOW GLOBAL STATUS. Asking is a connection and some statements of its own; take differences."""
        sql = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = %s"
        rows = self.query(sql, name)
        assert rows, f"MariaDB has no status variable {name!r}"
        return int(rows[0][0])

    def processes(self, user: str) -> list[int]:
        """The ids of all sessions of *user*, in the order they were opened."""
        sql = "SELECT id FROM information_schema.processlist WHERE user = %s ORDER BY id"
        return [row[0] for row in self.query(sql, user)]

    def kill_connections(self, user: str) -> int:
        """KILL all sessions of *user*, wait until they are gone, and return how many there were."""
        ids = set(self.processes(user))
        for number in ids:
            try:
                self.execute(f"KILL {number}")
            except pymysql.OperationalError as error:
                if error.args[0] != 1094:  # gone by itself in the meantime
                    raise
        until(lambda: not ids.intersection(self.processes(user)), what=f"the sessions of {user} to end")
        return len(ids)


def end_others(rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """End the sessions that earlier tests have left on a shared server, and wait until none is left but that of *rows*,
    which runs a statement: until then the server's counters go on. The superuser's sessions end by themselves."""
    others = "SELECT id, user FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user <> 'system user'"

    def ended() -> bool:
        found = rows(others)
        for number, user in found:
            if user != "root":
                with suppress(pymysql.OperationalError):  # it has ended by itself meanwhile
                    rows(f"KILL {number}")
        return not found

    until(ended, what="the sessions of earlier tests to end")


def _text(value: object) -> str:
    """A value as an option file or URL has it: booleans are 1 and 0."""
    return str(int(value)) if isinstance(value, bool) else str(value)
