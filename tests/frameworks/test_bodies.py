"""What each framework hands to the middleware, and so to the server: pages, streams, and files."""

from __future__ import annotations

import io
from collections.abc import Callable
from urllib.parse import urlencode
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from cities import CSV
from frameworks.clients import FORM
from frameworks.sites import InProcess
from support.wsgi import Call

LONDON = {"QUERY_STRING": "city=London"}


class Wrapper(FileWrapper):
    """A server's own: what it recognises, it sends by sendfile."""


@pytest.fixture
def site(make_site: Callable[..., InProcess]) -> InProcess:
    return make_site()


def leased(site: InProcess) -> int:
    return site.database.stats().leased


def test_a_page_is_settled_before_it_leaves(site: InProcess) -> None:
    """R3: a list, or a chunk that fills its Content-Length. web.py announces none, so the page's end is its body's."""
    call = Call(site.application, **LONDON)

    assert leased(site) == (0 if site.framework.length else 1)
    assert call.read() == b'City "London" is #770'
    assert leased(site) == 0


def test_a_stream_reads_its_rows_one_chunk_after_the_other(site: InProcess) -> None:
    """R4: nothing of the body is read ahead, but for what the server asks for; its end gives the connection back."""
    call = Call(site.application, "/cities")
    chunks = iter(call.body)
    first = next(chunks)
    early = site.database.stats().statements

    assert first.startswith(b"1 Her")
    assert leased(site) == 1
    rest = b"".join(chunks)
    assert rest.splitlines()[-1].startswith(b"833 ")
    assert site.database.stats().statements >= early + 6
    assert leased(site) == 0
    call.body.close()


def test_a_client_that_leaves_a_stream_gives_the_connection_back(site: InProcess) -> None:
    """R4: the server closes the body before its end; the cursor in the middle of it takes no connection along."""
    call = Call(site.application, "/cities")
    next(iter(call.body))

    call.body.close()
    stats = site.database.stats()
    assert (stats.leased, stats.idle, stats.discards) == (0, 1, {})


def test_a_download_is_what_the_file_wrapper_made(site: InProcess) -> None:
    """R3: the very object that the server's class made, so that it can use sendfile; its lease is over. CherryPy and
    web.py read the file themselves, with the middleware and without."""
    call = Call(site.application, "/cities.csv", **{"wsgi.file_wrapper": Wrapper})

    assert isinstance(call.body, Wrapper) == site.framework.wrapper
    if site.framework.wrapper or site.framework.length:
        headers = {name.lower(): text for name, text in call.headers.items()}
        assert headers["content-length"] == str(CSV.stat().st_size)
    if site.framework.wrapper:
        assert leased(site) == 0
    assert call.read() == CSV.read_bytes()
    assert leased(site) == 0


def test_an_excluded_path_takes_no_connection(make_site: Callable[..., InProcess]) -> None:
    """Though every other request gets one at its start."""
    site = make_site(WSGIDB_EXCLUDE="/cities.csv")

    assert site.request("GET", "/cities.csv").body == CSV.read_bytes()
    assert site.stats()["acquires"] == 0
    assert site.request("GET", "/nowhere").status == 404
    assert site.stats()["acquires"] == 1


def test_an_exception_is_raised_or_answered(site: InProcess) -> None:
    """R2: what the middleware sees of a handler's exception; both ways nothing of it stays."""
    data = urlencode([("city", "Laputa"), ("city", "")]).encode()
    form = {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(len(data)), "wsgi.input": io.BytesIO(data)}

    def post() -> Call:
        return Call(site.application, "/", REQUEST_METHOD="POST", **form)

    if site.framework.raises:
        with pytest.raises(ValueError, match="a city has a name"):
            post()
    else:
        call = post()
        call.read()
        assert call.status.startswith("500 ")
    assert not site.has("Laputa")
    assert leased(site) == 0


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *(("GET", target) for target in ("/?city=London", "/", "/cities", "/cities.csv", "/nowhere")),
        *(("HEAD", target) for target in ("/?city=London", "/cities")),  # for a file, Falcon forgets to close it
    ],
)
def test_wsgiref_validate_has_nothing_to_say(site: InProcess, method: str, target: str) -> None:
    """R11: a lint around the application, pages, aborts, streams, files and HEAD."""
    path, _, query = target.partition("?")
    call = Call(validator(site.application), path, QUERY_STRING=query, REQUEST_METHOD=method)

    call.read()
    assert leased(site) == 0
