"""The url: what it takes, and that no part of a malformed one is shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgidb import ConfigError
from wsgidb.config.url import Host, Url

SECRET = "geheim"


def chain(error: BaseException) -> str:
    """Everything that a traceback could show of an error, even without regard to ``from None``."""
    texts, todo = [], [error]
    while todo:
        one = todo.pop()
        texts.append(f"{one!r} {one}")
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(texts)


def test_all_parts() -> None:
    """A complete url is split into its parts."""
    url = Url.parse("mysql+pymysql://app:pw@db.example:3307/shop?charset=utf8mb4&local_infile=")
    assert url == Url(
        scheme="mysql+pymysql",
        user="app",
        password="pw",
        hosts=(Host("db.example", 3307),),
        name="shop",
        query={"charset": "utf8mb4", "local_infile": ""},
    )


@pytest.mark.parametrize("password", ["p@ss", "a/b", "50%", "a:b", "a#b", "a?b=c", "ключ", " ", "%40", "[x]", "+"])
def test_a_percent_encoded_password_comes_out_as_it_was(password: str) -> None:
    """Every percent-encoded character works in user, password and database name."""
    coded = quote(password, safe="")
    url = Url.parse(f"mysql://{coded}:{coded}@h/{coded}")
    assert (url.user, url.password, url.host, url.name) == (password, password, "h", password)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mysql://u@[::1]:3307/db", "::1", 3307),
        ("mysql://u@[fe80::1%25eth0]/db", "fe80::1%eth0", None),
        ("mysql://127.0.0.1/db", "127.0.0.1", None),
        ("mysql://h:0/db", "h", 0),
    ],
)
def test_hosts(text: str, host: str, port: int | None) -> None:
    """A host is a name or an address, an IPv6 address in brackets."""
    url = Url.parse(text)
    assert url.hosts == (Host(host, port),)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("h1,h2", [("h1", None), ("h2", None)]),
        ("h1:1,h2:2,h3", [("h1", 1), ("h2", 2), ("h3", None)]),
        ("H1,[::1]:3307,[fe80::1%25eth0]", [("h1", None), ("::1", 3307), ("fe80::1%eth0", None)]),
        ("%2Frun%2Fpostgresql,h2:5433", [("/run/postgresql", None), ("h2", 5433)]),
        ("h1:,h2", [("h1", None), ("h2", None)]),
    ],
)
@pytest.mark.parametrize("login", ["", "u@", "u:p,w@", "u,v:a%40b@"])
def test_several_hosts(hosts: str, expected: list[tuple[str, int | None]], login: str) -> None:
    """They have commas between them, and each may have a port. A comma in the login is none of theirs."""
    url = Url.parse(f"mysql://{login}{hosts}/db?a=1")
    assert url.hosts == tuple(expected)
    assert (url.host, url.name, url.query) == (expected[0][0], "db", {"a": "1"})


@pytest.mark.parametrize(
    ("hosts", "number", "what"),
    [
        (",h2", "1 of 2", "empty"),
        ("h1,", "2 of 2", "empty"),
        ("h1,,h3", "2 of 3", "empty"),
        ("h1,:3306", "2 of 2", "empty"),
        (f"h1:{SECRET},h2", "1 of 2", "malformed"),
        ("h1,h2:99999", "2 of 2", "malformed"),
        ("h1,h2:-1", "2 of 2", "malformed"),
        ("h1,::1", "2 of 2", "malformed"),
        ("h1,[::1", "2 of 2", "malformed"),
        ("[::1]x,h2", "1 of 2", "malformed"),
        ("h1, h2", "2 of 2", "malformed"),
    ],
)
def test_wrong_lists_of_hosts(hosts: str, number: str, what: str) -> None:
    """The error tells which one it is by its number, and shows nothing of it."""
    with pytest.raises(ConfigError, match=rf"^url: host {number} is {what}; several hosts are ") as caught:
        Url.parse(f"mysql://u:{SECRET}@{hosts}/db")
    assert SECRET not in chain(caught.value)


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("mysql://:pw@h/db", None, "pw"),
        ("mysql://@h/db", None, None),
        ("mysql://u:@h/db", "u", ""),
        ("mysql://u@h/db", "u", None),
    ],
)
def test_an_empty_user_or_password(text: str, user: str | None, password: str | None) -> None:
    """None leaves the driver's default; an empty password is a password."""
    url = Url.parse(text)
    assert (url.user, url.password) == (user, password)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"mysql://app:{SECRET}@h:1/db?ssl_key_password={SECRET}", "mysql://app:***@h:1/db"),
        (f"mysql://:{SECRET}@[::1]/db", "mysql://:***@[::1]/db"),
        (f"mysql://u:{SECRET}@h1:1,[::1]:2,%2Frun,h4/db", "mysql://u:***@h1:1,[::1]:2,%2Frun,h4/db"),
        ("mysql://app@h/db", "mysql://app@h/db"),
        ("sqlite:////var/lib/app.db", "sqlite:////var/lib/app.db"),
    ],
)
def test_its_text_shows_no_password(text: str, shown: str) -> None:
    """Neither str(), which log lines show, nor repr(), which debuggers show, has the password."""
    url = Url.parse(text)
    assert str(url) == shown
    assert SECRET not in repr(url)


MALFORMED = [
    "",
    SECRET,
    f"//u:{SECRET}@h/db",
    f"mysql:u:{SECRET}@h/db",
    f"mysql:/u:{SECRET}@h/db",
    f"mysql:u:{SECRET}@h//db",
    f"mysql:///u:{SECRET}@h/db",  # one slash too many
    f"mysql://u:1/{SECRET}@h/db",  # the / looks like the end of a port
    f"mysql://u:{SECRET}/x@h/db",
    f"mysql://u:{SECRET}#x@h/db",
    f"mysql://u:1#{SECRET}@h/db",
    f"mysql://u:{SECRET}?x@h/db",
    f"mysql://u:1?{SECRET}@h/db",
    f"mysql://u:12?{SECRET}=1@h/db",  # the ? looks like the beginning of a query
    f"mysql://u:{SECRET}%@h/db",
    f"mysql://u:{SECRET}%zz@h/db",
    f"mysql://u:{SECRET}%FF@h/db",  # not UTF-8
    f"mysql://u:{SECRET}@h:port/db",
    f"mysql://u:{SECRET}@h:99999/db",
    f"mysql://u:{SECRET}@[::1/db",
    f"mysql://u:{SECRET}@::1]/db",
    f"mysql://u:{SECRET}@h\u2100/db",  # urlsplit's own message quotes all of it
    f"mysql://u:{SECRET}@h/db?charset",
    f"mysql://u:{SECRET}@h/db?a=1&a=2",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_url_is_a_clear_message_without_a_piece_of_it(text: str) -> None:
    """The error names the option and the form that it takes. Neither it nor its context quotes the text."""
    with pytest.raises(ConfigError, match=r"^url: ") as caught:
        Url.parse(text)
    assert SECRET not in chain(caught.value)


def test_a_malformed_url_is_told_how_to_encode() -> None:
    """The error says how to encode special characters, which are the commonest reason."""
    with pytest.raises(ConfigError, match=r"percent-encode.*@ is %40, / is %2F"):
        Url.parse("mysql://u:a/b@h/db")


@pytest.mark.parametrize("value", [5, b"mysql://u:geheim@h/db", ["mysql://u:geheim@h/db"], object()])
def test_what_is_no_text_is_named_by_its_type(value: Any) -> None:
    """The value is not shown, because it may contain a password."""
    with pytest.raises(ConfigError, match=type(value).__name__) as caught:
        Url.parse(value)
    assert SECRET not in chain(caught.value)


PARTS = st.sampled_from(["mysql", "sqlite", *"/:@%[]?#&=,", "//", "%4", "%40", SECRET])


@given(st.one_of(st.text(), st.lists(st.one_of(PARTS, st.text(max_size=3)), max_size=15).map("".join)))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    """Nothing but ConfigError is raised, and it has no context that could quote the text."""
    behind: list[Any] = []
    try:
        str(Url.parse(text))
    except ConfigError as error:
        behind += [error.__cause__, error.__context__]
    assert behind in ([], [None, None])


@given(st.text(min_size=1), st.text(), st.text(min_size=1))
def test_every_login_survives_its_encoding(user: str, password: str, name: str) -> None:
    """User, password and name survive percent-encoding, whatever their characters."""
    user, password, name = (text.encode(errors="ignore").decode() for text in (user, password, name))
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    url = Url.parse(f"mysql://{login}@h/{quote(name, safe='')}")
    assert (url.user or "", url.password, url.name) == (user, password, name)


NAMES = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True),
    st.ip_addresses().map(str),
    st.text(min_size=1, max_size=10).map(lambda text: "/" + text.encode(errors="ignore").decode()),
)


def written(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("/") else quote(name, safe="")


@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), st.integers(1, 65535))), min_size=1, max_size=5))
def test_every_list_of_hosts_survives(hosts: list[tuple[str, int | None]]) -> None:
    """Names, IPv4 and IPv6 addresses and paths come out as they were, with their ports."""
    text = ",".join(written(name) + (f":{port}" if port else "") for name, port in hosts)
    assert Url.parse(f"mysql://u:p@{text}/db").hosts == tuple(hosts)
