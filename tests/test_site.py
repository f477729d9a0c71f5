"""The documentation's site, as `make docs` builds it."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from selenium.webdriver.support.ui import WebDriverWait

import wsgidb
from support import quoted
from support.browser import browser
from wsgidb import WsgiDBError, health, prometheus, status
from wsgidb.errors import SITE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")]
MODULES = {"wsgidb": wsgidb, "wsgidb.health": health, "wsgidb.prometheus": prometheus, "wsgidb.status": status}
PUBLIC = {
    *(f"{module}.{name}" for module, found in MODULES.items() for name in found.__all__),
    *("wsgidb.testing.SandboxDatabase", "wsgidb.paste.filter_factory", "wsgidb.paste.filter_app_factory"),
    *("wsgidb.drivers.Driver", "wsgidb.strategies.Store", "wsgidb.testing.wsgidb_sandbox"),
}
IMPORT = re.compile(r"^ *from (wsgidb[\w.]*) import ([\w, ]+)$", re.MULTILINE)
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page has: where its links lead, and the places to which links can lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.places.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with the Makefile's own command, in a directory of the test's own."""
    directory = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"^\t\$\(BIN\)/sphinx-build (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = [word.replace("build/", f"{directory}/", 1) for word in command.split()]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words],
        cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return directory / "docs"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_downloads" not in path.parts}


def test_it_has_every_document(site: Path, pages: dict[Path, Page]) -> None:
    """Each document is a page of the site, and the first page leads to it."""
    assert len(PAGES) > 25
    links = {urldefrag(link).url for link in pages[site / "index.html"].links}
    for page in PAGES:
        assert (site / f"{page}.html") in pages, page
        assert f"{page}.html" in links or page.name == "index", page


def test_its_links_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """Each link within the site leads to a file, and where it names a place, to a place in it."""
    broken = []
    followed = 0
    for path, page in pages.items():
        for link in page.links:
            target, place = urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            followed += 1
            found = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            known = pages[found].places if found in pages else None
            if not found.is_file() or (place and known is not None and unquote(place) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []
    assert followed > 1000


def test_the_links_of_the_package_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """The description of the package, and the errors, lead to pages and to places in them."""
    described: str = runpy.run_path(str(ROOT / "setup.py"))["description"]()
    links = re.findall(r"\]\(([^)\s]+)\)", described) + [WsgiDBError(entry=entry).link for entry in quoted.entries()]
    assert len(links) > 60
    for link in links:
        target, place = urldefrag(link.removeprefix(f"{SITE}page/"))
        assert (site / target).is_file(), link
        assert not place or place in pages[site / target].places, link


def test_readthedocs_builds_it_as_we_do() -> None:
    """With the same dependencies and settings; a warning is an error there, too."""
    settings = pytest.importorskip("yaml").safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert settings["sphinx"] == {"builder": "html", "configuration": "docs/conf.py", "fail_on_warning": True}
    makefile = (ROOT / "Makefile").read_text()
    assert "--editable . --group docs\n" in makefile
    assert "--fail-on-warning" in makefile
    assert settings["build"]["jobs"]["install"][-1] == "python -m pip install --group docs ."


def test_the_api_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    """Each public name is described in the page of the API, and none of wsgidb's own methods is."""
    places = pages[site / "api.html"].places
    assert PUBLIC - places == set()
    texts = [path.read_text() for path in (ROOT / "README.md", *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.py"))]
    found = [each for text in texts for each in IMPORT.findall(text)]
    imported = {f"{module}.{name}" for module, names in found for name in names.split(", ")}
    assert len(imported) > 12
    assert {name.replace("wsgidb.errors.", "wsgidb.") for name in imported} - places == set()
    assert {name for name in places if name.startswith("wsgidb.DatabaseMiddleware.")} == {
        "wsgidb.DatabaseMiddleware.__init__",
        "wsgidb.DatabaseMiddleware.database",
    }


def test_docstrings_are_not_shown_as_source(site: Path) -> None:
    """Examples are code, and a page that a docstring names is a link."""
    text = (site / "api.html").read_text()
    assert "docs/options.md" not in text
    assert 'href="options.html"' in text
    prose = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert "&gt;&gt;&gt;" not in prose
    assert "from wsgidb.health import" not in prose
    assert "def test_order" not in prose


def test_it_can_be_searched(site: Path) -> None:
    """A reader who looks for the text of an error finds the page that explains it. No server is needed for that."""
    with browser() as driver:
        driver.get(f"file://{site}/search.html?q=PoolOverloaded")
        WebDriverWait(driver, 30).until(lambda _: "Search Results" in driver.find_element("id", "search-results").text)
        found = [link.text for link in driver.find_elements("css selector", "#search-results ul.search li > a")]
    assert {"API", "Troubleshooting"} <= set(found)
