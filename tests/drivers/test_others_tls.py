"""ssl_mode for mysqlclient and MySQL Connector/Python, on servers with TLS and without."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.cases import ERRORS, run
from drivers.others import Open, driver_of, each_driver, soon
from support.mariadb import MariaDB, tls_files
from support.waiting import until
from wsgidb import ConfigError
from wsgidb.drivers.mysqlconnector.connection import Connection

pytestmark = [pytest.mark.server, each_driver]

MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
WRONG_NAME = "127.1"
"""The same address, but a name that is not in the server's certificate."""


def cipher(opened: Open, name: str, url: str, **options: Any) -> str:
    """The cipher that the server says it uses with us; empty in plaintext."""
    driver, conn = opened(name, url, **options)
    found = str(run(conn, "SHOW STATUS LIKE 'Ssl_cipher'")[0][1])
    assert driver.readable_is_dead(conn) is (found == ""), "the driver knows what the server says"
    return found


@pytest.mark.parametrize("mode", MODES)
def test_server_with_tls(tls_mariadb: MariaDB, opened: Open, name: str, mode: str) -> None:
    """ssl_mode: a server that offers TLS is taken at its word, but for disabled."""
    ca = {"ssl_ca": str(tls_mariadb.ca)} if mode.startswith("verify") else {}
    assert bool(cipher(opened, name, tls_mariadb.url(), ssl_mode=mode, **ca)) is (mode != "disabled")


@pytest.mark.parametrize("mode", MODES)
def test_server_without_tls(mariadb: MariaDB, opened: Open, name: str, mode: str) -> None:
    """ssl_mode: disabled and preferred go on in plaintext; required and above give no connection, whatever the
    driver's library makes of it (MariaDB's 3.3 connects all the same). The connector sends no password before."""
    before = mariadb.processes("guest")
    if mode in ("disabled", "preferred"):
        assert cipher(opened, name, mariadb.url(), ssl_mode=mode) == ""
        return
    with pytest.raises(ERRORS, match="offers no TLS" if name == "connector" else "TLS"):
        driver_of(name, mariadb.url(), ssl_mode=mode).connect(soon())
    until(lambda: set(mariadb.processes("guest")) <= set(before), what="the session to end")


@pytest.mark.parametrize("mode", ["verify_ca", "verify_identity"])
def test_wrong_authority(
    tls_mariadb: MariaDB, name: str, mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """ssl_mode: a certificate of somebody else's authority is refused."""
    other = str(tls_files(tmp_path_factory.mktemp("other"))[0])
    with pytest.raises(ERRORS, match="2026"):
        driver_of(name, tls_mariadb.url(), ssl_mode=mode, ssl_ca=other).connect(soon())


def test_wrong_host_name(tls_mariadb: MariaDB, opened: Open, name: str) -> None:
    """ssl_mode: verify_identity wants the host's name in the certificate. MariaDB's library, and so mysqlclient, knows
    no difference: verify_ca does, too."""
    url, ca = tls_mariadb.url().replace("127.0.0.1", WRONG_NAME), str(tls_mariadb.ca)
    assert cipher(opened, name, url, ssl_mode="required")
    for mode in ("verify_ca", "verify_identity"):
        if name == "connector" and mode == "verify_ca":
            assert cipher(opened, name, url, ssl_mode=mode, ssl_ca=ca)
        else:
            with pytest.raises(ERRORS, match="2026"):
                driver_of(name, url, ssl_mode=mode, ssl_ca=ca).connect(soon())


def test_client_certificate(tls_mariadb: MariaDB, opened: Open, name: str) -> None:
    """ssl_cert, ssl_key: a user that must show a certificate gets in with one."""
    tls_mariadb.execute("CREATE USER bearer@'%' REQUIRE X509")
    assert tls_mariadb.ca is not None
    files = {f"ssl_{which}": str(tls_mariadb.ca.with_name(f"{which}.pem")) for which in ("cert", "key")}
    url = tls_mariadb.url("bearer", database="")
    try:
        assert cipher(opened, name, url, ssl_mode="required", **files)
        with pytest.raises(ERRORS, match="1045"):
            cipher(opened, name, url, ssl_mode="required")
    finally:
        tls_mariadb.execute("DROP USER bearer@'%'")


def test_missing_file(name: str) -> None:
    """A file that is not there is a ConfigError at start-up, which names its option."""
    with pytest.raises(ConfigError, match=r"^ssl_ca: .*No such file.*missing\.pem"):
        driver_of(name, "mysql+pymysql://u@h/db", ssl_mode="verify_ca", ssl_ca="/missing.pem")


def test_unix_socket(tls_mariadb: MariaDB, opened: Open, name: str) -> None:
    """ssl_mode: nobody listens in on a Unix socket, so preferred has no TLS there; what is required is required."""
    url = f"mysql+pymysql://guest@/test?unix_socket={tls_mariadb.socket}"
    assert cipher(opened, name, url) == ""
    assert cipher(opened, name, url, ssl_mode="required")


def test_the_connection_that_came_out_counts(
    tls_mariadb: MariaDB, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssl_mode: a driver that does without TLS all the same is found out."""
    driver = driver_of(name, tls_mariadb.url(), ssl_mode="required")
    if name == "connector":
        never = property(lambda self: True, lambda self, value: None)
        monkeypatch.setattr(Connection, "_ssl_disabled", never, raising=False)
    else:
        monkeypatch.setattr(driver, "_options", lambda arguments: {"autocommit": None, "ssl_mode": "DISABLED"})
    with pytest.raises(ERRORS, match="without TLS"):
        driver.connect(soon())
