"""ssl_mode for PyMySQL: MySQL's names, alike for all its versions, on servers with TLS and without."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support.mariadb import MariaDB, tls_files
from wsgidb import ConfigError
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver
from wsgidb.drivers.pymysql.wire import Wire

WRONG_NAME = "127.1"
"""The same address, but a name that is not in the server's certificate."""


def driver_of(url: str, **options: Any) -> Driver:
    return make_driver(Settings.of({"url": url, **options}))


def cipher(url: str, **options: Any) -> str:
    """The cipher that the server says it uses with us; empty in plaintext."""
    driver = driver_of(url, **options)
    conn = driver.connect(time.monotonic() + 10)
    try:
        with conn.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            return str(cursor.fetchone()[1])
    finally:
        driver.close(conn)


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tls_files(tmp_path_factory.mktemp("other"))[0])


@pytest.mark.server
@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [("disabled", False), ("preferred", True), ("required", True), ("verify_ca", True), ("verify_identity", True)],
)
def test_server_with_tls(tls_mariadb: MariaDB, mode: str, encrypted: bool) -> None:
    """ssl_mode: a server that offers TLS is taken at its word, but for disabled."""
    ca = {"ssl_ca": str(tls_mariadb.ca)} if mode.startswith("verify") else {}
    assert bool(cipher(tls_mariadb.url(), ssl_mode=mode, **ca)) is encrypted


@pytest.mark.server
@pytest.mark.parametrize("mode", ["disabled", "preferred"])
def test_server_without_tls_is_taken(mariadb: MariaDB, mode: str) -> None:
    """ssl_mode: disabled and preferred go on in plaintext."""
    assert cipher(mariadb.url(), ssl_mode=mode) == ""


@pytest.mark.server
@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
def test_server_without_tls_is_refused(mariadb: MariaDB, mode: str) -> None:
    """ssl_mode: required and above never send a password in plaintext."""
    before = mariadb.processes("guest")
    with pytest.raises(pymysql.OperationalError, match="no TLS"):
        driver_of(mariadb.url(), ssl_mode=mode).connect(time.monotonic() + 10)
    assert set(mariadb.processes("guest")) <= set(before)


@pytest.mark.server
def test_the_connection_that_came_out_counts(tls_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssl_mode: a version of PyMySQL that does without TLS all the same is found out by looking at its socket."""
    monkeypatch.delattr(Wire, "_get_server_information")
    with pytest.raises(pymysql.OperationalError, match=r"2026.*without TLS"):
        driver_of(tls_mariadb.url(), ssl_mode="required").connect(time.monotonic() + 10)


@pytest.mark.server
@pytest.mark.parametrize("mode", ["verify_ca", "verify_identity"])
def test_wrong_authority(tls_mariadb: MariaDB, other_ca: str, mode: str) -> None:
    """ssl_mode: a certificate of somebody else's authority is refused, and so is one that the system does not know."""
    for options in ({"ssl_ca": other_ca}, {}):
        with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            driver_of(tls_mariadb.url(), ssl_mode=mode, **options).connect(time.monotonic() + 10)


@pytest.mark.server
def test_wrong_host_name(tls_mariadb: MariaDB) -> None:
    """ssl_mode: only verify_identity wants the host's name in the certificate."""
    url, ca = tls_mariadb.url().replace("127.0.0.1", WRONG_NAME), str(tls_mariadb.ca)
    assert cipher(url, ssl_mode="verify_ca", ssl_ca=ca)
    with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        driver_of(url, ssl_mode="verify_identity", ssl_ca=ca).connect(time.monotonic() + 10)


@pytest.mark.server
def test_preferred_and_required_verify_nothing(tls_mariadb: MariaDB) -> None:
    """ssl_mode: as in MySQL, preferred and required encrypt to whoever answers."""
    url = tls_mariadb.url().replace("127.0.0.1", WRONG_NAME)
    assert cipher(url, ssl_mode="preferred")
    assert cipher(url, ssl_mode="required")


@pytest.mark.server
def test_client_certificate(tls_mariadb: MariaDB, tmp_path: Path) -> None:
    """ssl_cert, ssl_key: a user that must show a certificate gets in with one."""
    tls_mariadb.execute("CREATE USER bearer@'%' REQUIRE X509")
    assert tls_mariadb.ca is not None
    server_files = {name: str(tls_mariadb.ca.with_name(f"{name}.pem")) for name in ("cert", "key")}
    options = {"ssl_mode": "required", "ssl_cert": server_files["cert"], "ssl_key": server_files["key"]}
    url = tls_mariadb.url("bearer", database="")
    try:
        assert cipher(url, **options)
        with pytest.raises(pymysql.OperationalError, match="1045"):
            cipher(url, ssl_mode="required")
    finally:
        tls_mariadb.execute("DROP USER bearer@'%'")


@pytest.mark.server
def test_one_context_for_all_connections(tls_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Database builds one TLS context, when it is made: each costs 22 ms."""
    built: list[ssl.SSLContext] = []

    new = ssl.SSLContext.__new__

    def counted(cls: type[ssl.SSLContext], *args: Any) -> ssl.SSLContext:
        built.append(new(cls, *args))
        return built[-1]

    monkeypatch.setattr(ssl.SSLContext, "__new__", counted)
    driver = driver_of(tls_mariadb.url(), ssl_mode="verify_ca", ssl_ca=str(tls_mariadb.ca))
    assert len(built) == 1
    connections = [driver.connect(time.monotonic() + 10) for _ in range(3)]
    assert [conn._sock.context for conn in connections] == built * 3
    for conn in connections:
        driver.close(conn)


@pytest.mark.server
def test_plaintext_builds_no_context(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssl_mode=disabled, and a Unix socket under preferred, cost no context at all."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a context was built")

    monkeypatch.setattr(ssl.SSLContext, "__new__", refuse)
    assert cipher(mariadb.url(), ssl_mode="disabled") == ""
    assert cipher(f"mysql://guest@/test?unix_socket={mariadb.socket}") == ""


@pytest.mark.server
def test_local_socket_may_be_required_to_use_tls(tls_mariadb: MariaDB) -> None:
    """ssl_mode: what is required is required on a Unix socket, too."""
    assert cipher(f"mysql://guest@/test?unix_socket={tls_mariadb.socket}", ssl_mode="required")


@pytest.mark.parametrize("name", ["ssl_ca", "ssl_cert", "ssl_key"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    """A file that is not there is a ConfigError at start-up, which names its option."""
    ca, cert, key = tls_files(tmp_path)
    files = {"ssl_ca": str(ca), "ssl_cert": str(cert), "ssl_key": str(key), name: str(tmp_path / "missing.pem")}
    with pytest.raises(ConfigError, match=f"^{name}: .*No such file.*missing.pem"):
        driver_of("mysql://guest@db.example/test", ssl_mode="verify_ca", **files)


def test_file_that_is_no_certificate(tmp_path: Path) -> None:
    """So is a file that holds something else."""
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(ConfigError, match="ssl_cert"):
        driver_of("mysql://guest@db.example/test", ssl_cert=str(junk))


def test_encrypted_key_asks_nobody(tmp_path: Path) -> None:
    """An encrypted key is an error, and no prompt on the server's terminal."""
    from cryptography.hazmat.primitives import serialization as pem

    _, cert, key = tls_files(tmp_path)
    private = pem.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(ConfigError, match="ssl_key"):
        driver_of("mysql://guest@db.example/test", ssl_cert=str(cert), ssl_key=str(key))
