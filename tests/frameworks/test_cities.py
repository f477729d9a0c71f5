"""The city application in every framework: under its test client on SQLite, and on Waitress with MariaDB."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest

import load_cities
from cities import CSV, HINT
from frameworks.clients import Answer
from frameworks.sites import EREWHON, InProcess, Site

LISTING = "".join(f"{number} {city}\n" for number, city, _ in load_cities.read_cities())


def test_a_city_is_found(site: Site) -> None:
    """Under its number, whatever its script."""
    assert site.request("GET", "/?city=London") == Answer(200, b'City "London" is #770')
    assert site.request("GET", f"/?city={quote('東京')}").text == 'City "東京" is #391'


def test_a_missing_city_is_a_404(site: Site) -> None:
    """The answer of the application, which asked the database."""
    assert site.request("GET", "/?city=Atlantis") == Answer(404, b'City "Atlantis" not found')


def test_no_city_is_aborted_with_a_400(site: Site) -> None:
    """In the framework's own way."""
    answer = site.request("GET", "/")

    assert answer.status == 400
    assert HINT in answer.text


def test_a_stream_reads_rows_while_it_is_sent(site: Site) -> None:
    """R4: to its end, with the connection that it began with."""
    before = site.stats()["statements"]
    answer = site.request("GET", "/cities")

    assert answer.status == 200
    assert answer.text.startswith(LISTING)
    assert site.stats()["statements"] - before >= len(LISTING.splitlines()) / 100


def test_a_download_is_whole(site: Site) -> None:
    """R3: every byte, whether the server's file wrapper takes it or the framework reads it."""
    assert site.request("GET", "/cities.csv") == Answer(200, CSV.read_bytes())


def test_success_is_committed_before_the_redirect(site: Site) -> None:
    """R9: under transaction=request; and the page that it leads to has what was written."""
    name = f"Lilliput {site.framework.name}"
    answer = site.request("POST", "/", name)

    assert answer.status == 303
    assert site.has(name)
    parts = urlsplit(answer.location or "")
    assert site.request("GET", f"{parts.path}?{parts.query}").text.startswith(f'City "{name}" is #')


def test_an_abort_is_vetoed(site: Site) -> None:
    """R9: a status of 400 and above rolls back what was written before."""
    name = f"Brobdingnag {site.framework.name}"
    answer = site.request("POST", "/", name, "London")

    assert answer.status == 409
    assert "There is a city" in answer.text
    assert not site.has(name)


def test_an_exception_in_the_handler_rolls_back(site: Site) -> None:
    """R2: where the framework lets it out, and where it makes a 500 of it."""
    name = f"Laputa {site.framework.name}"
    if isinstance(site, InProcess) and site.framework.raises:
        with pytest.raises(ValueError, match="a city has a name"):
            site.request("POST", "/", name, "")
    else:
        assert site.request("POST", "/", name, "").status == 500
    assert not site.has(name)


def test_a_failed_commit_is_never_a_success(site: Site) -> None:
    """R9: a 500 of wsgidb's own in place of the redirect."""
    with site.failing_commit():
        answer = site.request("POST", "/", EREWHON)

    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert not site.has(EREWHON)


def test_a_path_that_leads_nowhere_takes_no_connection(lean_site: Site) -> None:
    """With acquire=first-use: the framework's own 404."""
    before = lean_site.stats()["acquires"]

    assert lean_site.request("GET", "/nowhere").status == 404
    assert lean_site.stats()["acquires"] == before


def test_a_static_path_takes_no_connection(lean_site: Site) -> None:
    """With acquire=first-use, and exclude: whatever the framework does there."""
    before = lean_site.stats()["acquires"]

    assert lean_site.request("GET", "/cities.csv").body == CSV.read_bytes()
    assert lean_site.stats()["acquires"] == before
