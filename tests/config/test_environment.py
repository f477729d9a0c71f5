"""Settings from the environment and from an existing Database, and what their reprs show."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from support.fakedb import FakeDB
from wsgidb import ConfigError, Database, DatabaseMiddleware
from wsgidb.config.settings import Settings

SQLITE = "sqlite:////tmp/never-opened.sqlite3"
MYSQL = "mysql://app:geheim@db.invalid/shop"
SECRET = "geheim"


def app(environ: Any, start_response: Any) -> Any:
    raise AssertionError("never called")


class TestEnvironment:
    def test_each_option_is_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable is the prefix and the option in capitals, and its text is parsed as the option demands."""
        for name, text in {
            "URL": MYSQL, "POOL_SIZE": "3", "MAX_IDLE": "none", "EXCLUDE": "/a, /b/", "INIT_SQL": "SET a\n\nSET b",
            "CONNECT_ARGS": "json:loads", "KEY": "shop.conn", "SSL_MODE": "required",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"WSGIDB_{name}", text)
        settings = DatabaseMiddleware(app).settings
        assert (settings.pool_size, settings.max_idle, settings.key) == (3, None, "shop.conn")
        assert settings.exclude == ("/a", "/b")
        assert settings.init_sql == ("SET a", "SET b")
        assert settings.connect_args is json.loads
        assert settings.ssl_mode == "required"

    def test_a_prefix_of_ones_own_serves_a_second_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two databases are configured with two prefixes."""
        monkeypatch.setenv("WSGIDB_URL", SQLITE)
        monkeypatch.setenv("REPORTS_DB_URL", "sqlite:///reports.db")
        assert Database.from_env("REPORTS_DB_").settings.address == "sqlite:///reports.db"
        assert Database.from_env().settings.address == SQLITE

    def test_an_unknown_variable_of_the_prefix_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error shows the variable as it was written, and the nearest known one."""
        monkeypatch.setenv("WSGIDB_URL", SQLITE)
        monkeypatch.setenv("WSGIDB_POOLSIZE", "5")
        with pytest.raises(ConfigError, match=r"'WSGIDB_POOLSIZE' \(did you mean 'WSGIDB_POOL_SIZE'\?\)"):
            Database.from_env()

    def test_a_bad_variable_is_named_as_it_was_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names WSGIDB_POOL_SIZE, which the user set, and not pool_size."""
        monkeypatch.setenv("WSGIDB_URL", SQLITE)
        monkeypatch.setenv("WSGIDB_POOL_SIZE", "many")
        with pytest.raises(ConfigError, match=r"^WSGIDB_POOL_SIZE: takes a whole number .*, got 'many' [(]"):
            Database.from_env()

    def test_nothing_is_not_a_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the variable that is missing."""
        monkeypatch.delenv("WSGIDB_URL", raising=False)
        with pytest.raises(ConfigError, match="WSGIDB_URL"):
            DatabaseMiddleware(app)

    def test_options_in_code_count_for_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Options in code take precedence, and only the combination is checked for contradictions."""
        monkeypatch.setenv("WSGIDB_URL", SQLITE)
        monkeypatch.setenv("WSGIDB_POOL_SIZE", "3")
        monkeypatch.setenv("WSGIDB_STRATEGY", "thread-local")
        settings = DatabaseMiddleware(app, pool_size=4).settings
        assert (settings.pool_size, settings.strategy) == (4, "thread-local")
        monkeypatch.setenv("WSGIDB_SSL_CERT", "/cert.pem")
        monkeypatch.setenv("WSGIDB_SSL_KEY", "/key.pem")
        monkeypatch.setenv("WSGIDB_SSL_MODE", "disabled")
        assert Settings.from_env(overrides={"ssl_mode": "required"}).ssl_mode == "required"

    def test_a_url_in_code_ignores_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a url is given in code, the environment is not read."""
        monkeypatch.setenv("WSGIDB_URL", MYSQL)
        monkeypatch.setenv("WSGIDB_POOL_SIZE", "3")
        assert DatabaseMiddleware(app, SQLITE).settings.pool_size == 10


class TestSecrets:
    def test_no_repr_shows_a_password(self) -> None:
        """Settings, Database and middleware show no password in their reprs, wherever it was given."""
        middleware = DatabaseMiddleware(app, MYSQL, connect_args={"password": SECRET})
        creating = Database(creator=functools.partial(FakeDB().connect, password=SECRET))
        for thing in (middleware, middleware.database, middleware.settings, creating, creating.settings):
            assert SECRET not in f"{thing!r} {thing}"
        assert "app:***@db.invalid" in repr(middleware)


class TestReadyMade:
    def test_a_ready_made_database_takes_the_middlewares_options_only(self) -> None:
        """The database's options would have no effect, so they are refused, and the error says why."""
        database = Database(SQLITE)
        assert DatabaseMiddleware(app, database, key="a.b", exclude="/x").key == "a.b"
        with pytest.raises(ConfigError, match="pool_size: is an option of the Database"):
            DatabaseMiddleware(app, database, pool_size=5)
        with pytest.raises(ConfigError, match=r"'exlude' \(did you mean 'exclude'"):
            DatabaseMiddleware(app, database, exlude="/x")  # type: ignore[call-arg]
