"""What users of other libraries try: each mistake gets a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from wsgidb import ConfigError, Database
from wsgidb.config.hints import CHECKED, ELSEWHERE, NO_ENGINE
from wsgidb.config.options import OPTIONS
from wsgidb.drivers import DRIVERS, SHORT
from wsgidb.drivers import ELSEWHERE as SCHEMES

SQLITE = "sqlite:////tmp/never-opened.sqlite3"
MYSQL = [scheme for scheme in DRIVERS if scheme.startswith("mysql")]


def refusal(url: str | None = SQLITE, /, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Database(url, **options)
    return caught.value.text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pool_timeout", ": use acquire_timeout"),
        ("pool_recycle", ": use max_lifetime"),
        ("pool_pre_ping", f": {CHECKED.format(ping_after='ping_after')}"),
        ("max_overflow", ": no connections are opened beyond pool_size"),
        ("POOL_SIZE", " (did you mean 'pool_size'?)"),
        ("CONN_MAX_AGE", ": use max_lifetime; for 0 use strategy=per-request"),
        ("ATOMIC_REQUESTS", ": use transaction=request"),
        ("AUTOCOMMIT", ": use transaction=autocommit"),
        ("NAME", ": it is a part of the url: driver://user:password@host:port/name"),
        ("HOST", ": it is a part of the url: driver://user:password@host:port/name"),
        ("USER", ": it is a part of the url: driver://user:password@host:port/name"),
        ("charset", ": options of the driver go into the query of the url, or into connect_args"),
        ("maxconnections", ": use pool_size"),
        ("pool", ": use strategy"),
        ("isolation_level", ": use init_sql with a statement that sets it, and transaction for autocommit"),
        ("echo_pool", ": wsgidb logs to the logger wsgidb, whose level is set by Python's logging"),
        ("future", f": {NO_ENGINE}"),
        ("SQLALCHEMY_DATABASE_URI", ": use url"),
        ("SQLALCHEMY_POOL_SIZE", " (did you mean 'pool_size'?)"),
        ("SQLALCHEMY_ENGINE_OPTIONS", ": give its entries by their own names here"),
        ("TIME_ZONE", ": use init_sql with a statement that sets it"),
        ("TEST", ": wsgidb.testing.SandboxDatabase takes its place in tests"),
    ],
)
def test_an_option_of_another_library_names_ours(name: str, hint: str) -> None:
    """SQLAlchemy's, Django's and DBUtils' names, in upper and lower case, tell which option to use."""
    assert refusal(**{name: 5}) == f"unknown option {name!r}{hint}"


def test_in_the_environment_a_hint_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of WSGIDB_CONN_MAX_AGE needs WSGIDB_MAX_LIFETIME."""
    monkeypatch.setenv("WSGIDB_URL", SQLITE)
    monkeypatch.setenv("WSGIDB_CONN_MAX_AGE", "60")
    hint = "use WSGIDB_MAX_LIFETIME; for 0 use WSGIDB_STRATEGY=per-request"
    with pytest.raises(ConfigError, match=f"^unknown option 'WSGIDB_CONN_MAX_AGE': {hint} [(]"):
        Database.from_env()


def test_every_hint_names_options_that_exist() -> None:
    """No hint is for an option itself, unless it is meant for its name in capitals."""
    for hint in ELSEWHERE.values():
        assert hint.format_map(dict.fromkeys(OPTIONS, "x")) != hint or "{" not in hint
    assert ELSEWHERE.keys() & OPTIONS.keys() <= {"name"}


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_url_is_called_empty(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, the error names the variable, which is set but empty."""
    expected = "is empty; takes driver://user:password@host:port/name?driver-option=value"
    assert refusal(text) == f"url: {expected}"
    monkeypatch.setenv("WSGIDB_URL", text)
    with pytest.raises(ConfigError) as caught:
        Database.from_env()
    assert caught.value.text == f"WSGIDB_URL: {expected}"


def test_a_malformed_url_in_the_environment_is_named_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error begins with the variable, and shows nothing of the url."""
    monkeypatch.setenv("WSGIDB_URL", "mysql//app:geheim@db/shop")
    with pytest.raises(ConfigError, match=r"^WSGIDB_URL: malformed; takes ") as caught:
        Database.from_env()
    assert "geheim" not in f"{caught.value}{caught.value.__context__}"


@pytest.mark.parametrize("name", ["pool_size", "strategy", "transaction", "acquire_timeout", "key", "POOL_SIZE"])
@pytest.mark.parametrize("scheme", DRIVERS)
def test_an_option_of_wsgidb_in_the_url_is_told_where_it_goes(scheme: str, name: str) -> None:
    """The query of a url is for the driver's options."""
    said = refusal(f"{scheme}://db.invalid/shop?{name}=5".replace("sqlite://db.invalid", "sqlite://"))
    assert said.startswith(f"{name}: is an option of wsgidb and not of ")
    assert said.endswith("; give it as a keyword argument or environment variable, not in the url or connect_args")


@pytest.mark.parametrize("scheme", DRIVERS)
def test_another_librarys_option_in_the_url_names_ours(scheme: str) -> None:
    """SQLAlchemy's pool_recycle in a url is max_lifetime here."""
    url = f"{scheme}://db.invalid/shop?pool_recycle=5".replace("sqlite://db.invalid", "sqlite://")
    assert refusal(url).endswith(" has no such option; use max_lifetime")


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("ssl-mode=REQUIRED", "; use ssl_mode"),
        ("sslaccept=strict", "; use ssl_mode"),
        ("useSSL=true", "; use ssl_mode"),
        ("connection_limit=5", "; use pool_size"),
        ("reconnect=true", "; wsgidb connects again by itself"),
        ("timezone=UTC", "; use init_sql with a statement that sets it"),
    ],
)
@pytest.mark.parametrize("scheme", MYSQL)
def test_what_other_tools_urls_have(scheme: str, query: str, hint: str) -> None:
    """The urls of hosting services, and those made for other languages. None of these is taken for a similar name of
    the driver's."""
    name = query.partition("=")[0]
    said = refusal(f"{scheme}://db.invalid/shop?{query}")
    assert said.startswith(f"{name}: ")
    assert said.endswith(f" has no such option{hint}")


@pytest.mark.parametrize(
    ("scheme", "names", "ours"),
    [("postgresql", ("charset", "encoding"), "client_encoding"), ("mysql", ("client_encoding", "encoding"), "charset")],
)
def test_the_names_of_the_character_set(scheme: str, names: tuple[str, ...], ours: str) -> None:
    """MySQL's drivers call it charset, psycopg calls it client_encoding, and others simply encoding."""
    for name in names:
        said = refusal(f"{scheme}://db.invalid/shop?{name}=utf8")
        assert said.endswith(f" has no such option (did you mean {ours!r}?)")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_librarys_scheme_names_ours(scheme: str) -> None:
    """postgres://, which many services give, and the schemes of SQLAlchemy and Django."""
    assert SCHEMES[scheme] in {*DRIVERS, *SHORT}
    assert refusal(f"{scheme}://app@db.invalid/shop").startswith(
        f"url: unknown scheme {scheme!r} (did you mean {SCHEMES[scheme]!r}?); takes "
    )


@pytest.mark.parametrize("scheme", MYSQL)
@pytest.mark.parametrize(
    ("text", "hint"),
    [("utf-8", " (did you mean 'utf8mb4'?)"), ("UTF8MB5", " (did you mean 'utf8mb4'?)"), ("xyz", ""), ("ucs2", None)],
)
def test_a_bad_character_set_is_known_at_start_up(scheme: str, text: str, hint: str | None) -> None:
    """A driver would fail at every connect, PyMySQL with an AttributeError."""
    url = f"{scheme}://app@db.invalid/shop"
    for said in (refusal(f"{url}?charset={text}"), refusal(url, connect_args={"charset": text})):
        start = f"charset: takes a character set of MySQL, such as utf8mb4, got {text!r}"
        assert said.startswith(start)
        assert hint is None or said == start + hint


@pytest.mark.parametrize("scheme", MYSQL)
@pytest.mark.parametrize("text", ["utf8mb4", "UTF8MB4", "latin1", ""])
def test_a_good_character_set_is_taken(scheme: str, text: str) -> None:
    """In capitals too, as the server takes it; an empty one is the driver's default."""
    Database(f"{scheme}://app@db.invalid/shop?charset={text}").close()
