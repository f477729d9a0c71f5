"""The options: a wrong one is refused at start-up, by name, and never with a password."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fakedb import FakeDB
from wsgidb import ConfigError, Database, DatabaseUnavailable
from wsgidb.config.options import OPTIONS
from wsgidb.config.settings import Settings

SQLITE = "sqlite:////tmp/never-opened.sqlite3"
MYSQL = "mysql://app:geheim@db.invalid/shop"
SECRET = "geheim"


def refusal(url: Any = SQLITE, /, **options: Any) -> str:
    """The ConfigError's message for these options. Neither it nor its context shows a password."""
    with pytest.raises(ConfigError) as caught:
        Database(url, **options)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    return caught.value.text


def test_an_unknown_option_is_named_with_the_nearest_known() -> None:
    """A misspelt option would leave a default in place, so it is refused."""
    assert refusal(pol_size=5) == "unknown option 'pol_size' (did you mean 'pool_size'?)"
    assert refusal(xyzzy=5).startswith("unknown option 'xyzzy'; known: url, driver, creator,")


def test_a_url_is_given_once() -> None:
    """Two urls are refused, because nobody can know which one was meant."""
    assert refusal(SQLITE, url=SQLITE) == "url: given twice"


def test_an_error_is_a_value_error_too() -> None:
    """A caller that does not know wsgidb can catch it."""
    with pytest.raises(ValueError, match="pool_size"):
        Database(SQLITE, pool_size=0)


NUMBERS = [name for name, option in OPTIONS.items() if "number" in option.metadata["takes"].takes]
NONE_AT_ALL = [True, "", "five", "5s", "nan", "inf", b"5", [5], 1j]
BAD_NUMBERS = [-1, -0.5, 1e308, 10**30, float("nan"), float("inf"), float("-inf"), *NONE_AT_ALL]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
def test_a_bad_number_is_refused_by_name(name: str, value: Any) -> None:
    """The error names the option, what it takes and what it got. No value is replaced by another one."""
    message = refusal(**{name: value})
    assert message.startswith(f"{name}: takes a ")
    assert message.endswith(f"got {value!r}")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_an_upper_bound_that_the_error_names(name: str) -> None:
    """The bound itself is taken, and one more is refused: a driver would wrap it around or raise at every request."""
    takes = OPTIONS[name].metadata["takes"].takes
    most = int(takes.removesuffix(" or none").rpartition(" and <= ")[2])
    needed = {"transaction": "request", "board": "/tmp/none"}
    assert getattr(Settings.of({"url": SQLITE, **needed, name: most}), name) == most
    for value in (most + 1, str(most + 1)):
        assert refusal(**{name: value}) == f"{name}: takes {takes}, got {value!r}"
    if name.endswith("_timeout"):
        assert most * 1000 < 2**31, "drivers and poll() take milliseconds in 32 bits"


def test_a_value_that_cannot_be_shown_is_refused_all_the_same() -> None:
    """Python refuses to write an int of more than 4,300 digits."""
    assert refusal(pool_size=10**5000) == f"pool_size: takes {OPTIONS['pool_size'].metadata['takes'].takes}"


@pytest.mark.parametrize("name", NUMBERS)
def test_where_zero_means_nothing_it_is_refused(name: str) -> None:
    """An empty pool, or no time at all, would never serve a request."""
    if name in ("ping_after", "max_waiting", "retry_after", "retry"):
        assert getattr(Settings.of({"url": SQLITE, name: 0}), name) == 0
    else:
        assert refusal(**{name: 0}).startswith(f"{name}: takes")


@pytest.mark.parametrize("name", ["pool_size", "max_waiting", "retry_after", "retry"])
def test_a_count_is_whole(name: str) -> None:
    """A fraction is refused where connections or requests are counted."""
    assert "a whole number" in refusal(**{name: 1.5})
    assert "a whole number" in refusal(**{name: "1.5"})


@pytest.mark.parametrize("name", NUMBERS)
def test_none_is_taken_only_where_it_has_a_meaning(name: str) -> None:
    """The option table says which options take none, in code and as text."""
    takes_none = OPTIONS[name].metadata["takes"].takes.endswith("or none")
    for value in (None, "none", "None"):
        if takes_none:
            assert getattr(Settings.of({"url": SQLITE, name: value}), name) is None
        else:
            assert refusal(**{name: value}).startswith(f"{name}: takes")


@pytest.mark.parametrize("name", ["strategy", "transaction", "acquire", "ssl_mode"])
def test_a_choice_lists_its_values(name: str) -> None:
    """A mistyped value is refused with the list of values."""
    assert "(did you mean 'required'?)" in refusal(ssl_mode="REQUIRED")
    message = refusal(**{name: "pooold"})
    assert message.startswith(f"{name}: takes one of ")
    assert "'pooold'" in message


PATHS = OPTIONS["exclude"].metadata["takes"].takes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "conn"}, "key: takes an environ key with a dot in it"),
        ({"key": ""}, "key: takes a string"),
        ({"key": f"mysql://u:{SECRET}@h/d"}, "key: takes an environ key with a dot in it"),
        ({"exclude": [f"mysql://u:{SECRET}@h/d"]}, "exclude: takes path prefixes that begin with /"),
        ({"exclude": "static"}, f"exclude: takes {PATHS}, got 'static'"),
        ({"exclude": ["/a", "b"]}, f"exclude: takes {PATHS}, got ['/a', 'b'] (namely 'b')"),
        ({"exclude": "/"}, "exclude: takes path prefixes"),
        ({"exclude": 5}, "exclude: takes path prefixes"),
        ({"init_sql": [5]}, "init_sql: takes a list of statements"),
        ({"on_unavailable": "nowhere:app"}, "on_unavailable: takes a callable"),
        ({"on_unavailable": "json:nothing"}, "on_unavailable: takes a callable"),
        ({"on_unavailable": 5}, "on_unavailable: takes a callable"),
        ({"connect_args": "json:dumps.x"}, "connect_args: takes a dict"),
        ({"connect_args": 5}, "connect_args: takes a dict"),
        ({"connect_args": {5: 5}}, "connect_args: takes a dict"),
        ({"connect_args": f'{{"password": "{SECRET}"}}'}, "connect_args: takes a dict"),
        ({"connect_args": f"{SECRET}!:x"}, "connect_args: takes a dict"),
        ({"connect_args": f"json://u:{SECRET}@h"}, "connect_args: takes a dict"),  # json is also a module
        ({"creator": FakeDB().connect}, "url and creator: give only one of them"),
        ({"ssl_ca": "/ca.pem"}, "ssl_ca: needs ssl_mode verify_ca or verify_identity"),
        ({"ssl_key": "/key.pem"}, "ssl_key: needs ssl_cert"),
        ({"ssl_cert": "/c", "ssl_mode": "disabled"}, "ssl_cert, ssl_key: need TLS, but ssl_mode is disabled"),
        ({"read_timeout": 5}, "read_timeout: sqlite has no such option"),
    ],
)
def test_other_bad_values(options: dict[str, Any], message: str) -> None:
    """Each error begins with the option's name and says what it takes."""
    assert refusal(**options).startswith(message)


@pytest.mark.parametrize("none", [None, "none", "None"])
@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if "none" in option.metadata["takes"].takes])
def test_none_is_what_the_documentation_calls_it(name: str, none: object) -> None:
    """none is the documented name of the default, and may be given."""
    default = getattr(Settings.of({"url": SQLITE}), name)
    given = getattr(Settings.of({"url": SQLITE, name: none}), name)
    assert given == (type(default)() if isinstance(default, (dict, tuple)) else None)


def test_a_callable_that_returns_no_dict_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """connect_args is called when a connection is opened, so the log must say what is wrong."""
    database = Database(SQLITE, connect_args=lambda: 5)  # type: ignore[arg-type]
    with pytest.raises(DatabaseUnavailable), database.connection():
        pass
    assert "connect_args: takes a callable that returns a dict, got int of it" in caplog.text


TEXTS = ("ssl_ca", "ssl_cert", "ssl_key", "ping_query", "init_sql", "key", "url", "replicas")  # these take any text


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in TEXTS])
def test_a_url_in_the_wrong_place_is_not_repeated(name: str) -> None:
    """A url given to another option by mistake is not shown, because the error may be logged."""
    assert refusal(None if name == "creator" else SQLITE, **{name: MYSQL}).startswith(f"{name}: takes ")


def test_neither_url_nor_creator() -> None:
    """A Database needs a url or a creator."""
    assert refusal(None) == "url: is missing, or None; give a url or a creator"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"msql://u:{SECRET}@h/db", "url: unknown scheme 'msql' (did you mean 'mysql'?); takes "),
        (f"mysqlclient://u:{SECRET}@h/db", "url: unknown scheme 'mysqlclient' (did you mean 'mysql+mysqldb'?)"),
        (f"mariadb://u:{SECRET}@h/db", "url: unknown scheme 'mariadb' (did you mean 'mysql'?)"),
        (f"oracle://u:{SECRET}@h/db", "url: unknown scheme 'oracle'; creator takes connections of any other "),
        (f"mysql://u:{SECRET}@/db", "url: mysql://u:***@/db names no host"),
        (f"{MYSQL}?nonsense=1", "nonsense: PyMySQL has no such option"),
        (f"{MYSQL}?charst=utf8", "charst: PyMySQL has no such option (did you mean 'charset'?)"),
        (f"{MYSQL}?autocommit=1", "autocommit: cannot be given in the url or connect_args; use "),
        (f"{MYSQL}?connect_timeout=1", "connect_timeout: cannot be given"),
        (f"{MYSQL}?password={SECRET}", "password: belongs before the url's question mark"),
        (f"{MYSQL}?max_allowed_packet=big", "max_allowed_packet: takes int, got 'big'"),
        (f"{MYSQL}?local_infile=perhaps", "local_infile: takes bool, got 'perhaps'"),
        (f"{MYSQL}?cursorclass=Nope", "cursorclass: PyMySQL has no cursor class 'Nope'"),
        ("sqlite://", "url: sqlite:/// names no file"),
        ("sqlite:///", "url: sqlite:/// names no file"),
        ("sqlite://host/file", "url: sqlite://host/file names no file"),
        ("sqlite:///:memory:", "url: sqlite:///:memory: would be a new, empty database for every connection; use a "),
        ("sqlite:///x?timeout=long", "timeout: takes a number >= 0 and <= 604800, got 'long'"),
        ("sqlite:///x?timeout=-1", "timeout: takes a number >= 0 and <= 604800, got '-1'"),
        ("sqlite:///x?timeout=nan", "timeout: takes a number >= 0 and <= 604800, got 'nan'"),
        ("sqlite:///x?timeout=1e10", "timeout: takes a number >= 0 and <= 604800, got '1e10'"),
        ("sqlite:///x?detect_types=4", "detect_types: takes a whole number >= 0 and <= 3, got '4'"),
        (f"sqlite:///x?cached_statements={10**20}", "cached_statements: takes a whole number >= 0 and <= 1000000,"),
        ("sqlite:///x?isolation_level=IMMEDIATE", "isolation_level: cannot be given"),
        ("sqlite:///x?timout=1", "timout: sqlite has no such option (did you mean 'timeout'?)"),
    ],
)
def test_what_is_wrong_with_a_url_is_known_at_start_up(url: str, message: str) -> None:
    """Each driver checks its part of the url at start-up."""
    assert refusal(url).startswith(message)


@pytest.mark.parametrize(("url", "name"), [(MYSQL, "autocommit"), (SQLITE, "isolation_level"), (SQLITE, "autocommit")])
def test_autocommit_is_the_transaction_options_business(url: str, name: str) -> None:
    """Autocommit is refused in the url and in connect_args, because it would contradict the option transaction."""
    assert refusal(url, connect_args={name: True}).startswith(f"{name}: cannot be given in the url or connect")


def test_every_option_is_in_the_table() -> None:
    """Every field of the settings is a row of the option table, so that it has a parser and documentation."""
    assert {field.name for field in fields(Settings)} - OPTIONS.keys() == {"given"}
    for name, option in OPTIONS.items():
        assert option.metadata["meaning"], name


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just(len)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=4,
)
MADE: list[Callable[[dict[str, Any]], object]] = [Settings.of, lambda options: Database(**options)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.dictionaries(st.one_of(st.sampled_from(list(OPTIONS)), st.text()), VALUES, max_size=4), st.sampled_from(MADE))
def test_any_options_are_taken_or_a_config_error(options: dict[str, Any], make: Any) -> None:
    """Whatever the options are, nothing but ConfigError is raised."""
    with suppress(ConfigError):
        make({"url": SQLITE, **options})
