"""The cookies and the header that positions travel in."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

import pytest

from support.wsgi import environment
from wsgidb.wsgi.positions import Head, Names

Headers = list[tuple[str, str]]


def answered(position: dict[str, int] | None, key: str = "db.conn", **environ: Any) -> Headers:
    """The headers of a response to a request that has written that; None means that it is not known."""
    names, given = Names(key), environment(**environ)
    started: list[Any] = []
    head = Head(names, given, lambda *args: started.append(args), names.needed(given))  # type: ignore[arg-type]
    head.note(position)
    head("200 OK", [("X", "y")])
    headers: Headers = started[0][1]
    assert headers[0] == ("X", "y")
    return headers[1:]


def cookies(headers: Headers) -> dict[str, Any]:
    jar: SimpleCookie = SimpleCookie()
    for name, value in headers:
        if name == "Set-Cookie":
            jar.load(value)
    return dict(jar)


def test_a_write_is_told_by_a_cookie_and_a_header() -> None:
    """The cookie is short-lived, for the whole site, and out of reach of scripts and of other sites' forms."""
    headers = answered({"0": 8})
    assert headers[1:] == [("Wsgidb-Position", "0-8")]
    assert headers[0] == (
        "Set-Cookie",
        "wsgidb-position-d302def3=0-8; Max-Age=60; Path=/; HttpOnly; SameSite=Lax",
    )
    (secure, *_) = answered({"0": 8}, **{"wsgi.url_scheme": "https"})
    assert secure[1].endswith("; SameSite=Lax; Secure")


def test_nothing_written_nothing_told() -> None:
    assert answered({}) == []
    assert answered({}, HTTP_COOKIE="wsgidb-position-00000000=0-9") == []


@pytest.mark.parametrize("brought", ["0-9", "0-3_1-5"])
def test_what_the_request_brought_is_merged(brought: str) -> None:
    """An earlier position never replaces a later one."""
    headers = answered({"0": 8}, HTTP_COOKIE=f"a=b; wsgidb-position-00000000={brought}; c=d")
    assert dict(headers)["Wsgidb-Position"] == {"0-9": "0-9", "0-3_1-5": "0-8_1-5"}[brought]


def test_writes_that_run_together_have_cookies_of_their_own() -> None:
    """Whichever response arrives last, the browser has both positions, and sends both."""
    first, second = cookies(answered({"0": 8})), cookies(answered({"0": 9}))
    sent = "; ".join(f"{name}={morsel.value}" for name, morsel in {**second, **first}.items())
    assert Names("db.conn").needed(environment(HTTP_COOKIE=sent)) == {"0": 9}


def test_many_cookies_are_removed_but_for_those_that_say_primary() -> None:
    """They would expire by themselves, but a client that writes a lot would send many of them until then."""
    sent = [f"wsgidb-position-0000000{n}=0-{n}" for n in range(5)]
    made = cookies(answered({"0": 8}, HTTP_COOKIE="; ".join([*sent, "wsgidb-position-0000000a=primary-1"])))
    removed = {name for name, morsel in made.items() if morsel["max-age"] == "0"}
    assert removed == {f"wsgidb-position-0000000{n}" for n in range(5)}
    assert len(made) == 6
    assert len(cookies(answered({"0": 8}, HTTP_COOKIE="; ".join(sent[:4])))) == 1


def test_an_unknown_position_means_the_primary_for_as_long_as_the_cookie_lasts() -> None:
    """It is not merged into later ones, which would prolong it."""
    assert dict(answered(None))["Wsgidb-Position"] == "primary-1"
    brought = "wsgidb-position-0000000a=primary-1"
    assert dict(answered({"0": 8}, HTTP_COOKIE=brought))["Wsgidb-Position"] == "0-8"


def test_each_key_has_names_of_its_own() -> None:
    """So that two middlewares for two databases do not take each other's positions for their own."""
    headers = answered({"0": 8}, key="shop.stats")
    assert headers[1] == ("Wsgidb-Position-Shop-Stats", "0-8")
    (cookie,) = cookies(headers)
    assert cookie.startswith("wsgidb-position-shop-stats-")
    sent = environment(HTTP_COOKIE=f"{cookie}=0-8", HTTP_WSGIDB_POSITION_SHOP_STATS="0-9")
    assert Names("db.conn").needed(sent) is None
    assert Names("shop.stats").needed(sent) == {"0": 9}


@pytest.mark.parametrize(
    "sent",
    [
        *("wsgidb-position-0000000a=", "wsgidb-position-0000000a=x", "xwsgidb-position-0000000a=0-8"),
        *("wsgidb-position-a=0-8", "wsgidb-position-0000000A=0-8", "a=wsgidb-position-0000000a", "wsgidb-position=0-8"),
        'wsgidb-position-0000000a="0-8"',
    ],
)
def test_other_cookies_are_not_taken_for_positions(sent: str) -> None:
    assert Names("db.conn").needed(environment(HTTP_COOKIE=sent)) is None


def test_cookies_are_found_wherever_they_stand() -> None:
    """Repeated ones are merged; a parsed header is remembered, but never too many of them."""
    names = Names("db.conn")
    one, two = "wsgidb-position-0000000a=0-8", "wsgidb-position-0000000b=1-9"
    for sent in (f"{one}; {two}", f"x=1; {one}; y=2; {two}; z=3", f"{one};{two}"):
        assert names.needed(environment(HTTP_COOKIE=sent)) == {"0": 8, "1": 9}
    assert names.needed(environment(HTTP_COOKIE=one)) == {"0": 8}
    for n in range(1200):
        assert names.needed(environment(HTTP_COOKIE=f"wsgidb-position-0000000a=0-{n}")) == {"0": n}
    assert len(names._parsed) <= 500
