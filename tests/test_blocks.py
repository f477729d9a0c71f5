"""Every block of code in README and docs/ is run by the tests, or stands in a list here with the reason why not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from test_documents import DOCUMENTS, ROOT

FENCED = re.compile(r"^(`{3,})([\w-]+|\{[\w-]+\})?[^\n]*\n(?:.*?)^\1$\n?", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"\n\n(?! +[-*|])((?: {4}.+\n(?:\n(?= {4}))?)+)")
DIRECTIVES = re.compile(r"\{.*\}")
"""Sphinx runs these; test_site.py looks at what comes of them."""

RUN = """
README.md                   python    2   test_documents.py
docs/deployment.md          python    3   test_snippets.py servers/test_warm.py
docs/drivers.md             sh        1   test_first_steps.py
docs/drivers.md             text      1   test_snippets.py
docs/extending.md           python    4   strategies/test_third_party.py
docs/hooks.md               python    2   test_snippets.py test_tenants_page.py
docs/migrating.md           python   10   test_migrating.py
docs/observing.md           python    1   test_snippets.py
docs/observing.md           indented  1   test_snippets.py
docs/passwords.md           python    3   test_passwords_page.py
docs/passwords.md           sql       1   test_passwords_page.py
docs/probes.md              python    3   test_snippets.py
docs/probes.md              haproxy   1   test_snippets.py
docs/prometheus.md          python    2   observe/test_dashboards.py
docs/replicas.md            python    1   test_snippets.py
docs/scale.md               text      4   test_snippets.py
docs/scale.md               ini       2   cluster/test_recipes.py
docs/scale.md               haproxy   1   cluster/test_recipes.py
docs/servers.md             python    1   test_snippets.py
docs/streaming.md           python    3   test_streaming_page.py
docs/tenants.md             python    6   test_tenants_page.py
docs/tenants.md             sql       1   test_tenants_page.py
docs/testing-your-app.md    python    9   test_documents.py
docs/transactions.md        python    4   test_snippets.py
docs/tutorial.md            python    4   test_tutorial.py
docs/tutorial.md            console   9   test_tutorial.py
docs/howto/mod_wsgi.md      python    2   test_howto.py
docs/howto/mod_wsgi.md      apache    1   test_howto.py
"""
"""Document, kind of block, how many, and the tests that run them. The other pages in docs/howto are followed from the
first block to the last by test_howto.py."""

NOT_RUN = """
README.md                   indented  2   pip and make: test_documents.py looks the names up
CONTRIBUTING.md             indented  2   make and pytest: a test that runs the tests
docs/deployment.md          indented  1   a command, which cli/test_drain.py runs with a board of its own
docs/logging.md             text      2   no code: reasons in the log, which messages/ provokes
docs/migrating.md           python    1   PySQLPool, which runs on Python 2 only
docs/observing.md           indented  2   no code: a line of the log, and a header
docs/passwords.md           text      1   variables, which the tests of the page set in another way
docs/probes.md              yaml      1   Kubernetes, which is not here
docs/prometheus.md          sh        1   pip
docs/prometheus.md          yaml      1   Prometheus, which is not here
docs/replicas.md            text      1   no code: headers, which scale/ compares
docs/tutorial.md            sh        1   pip
docs/troubleshooting.md     text      *   no code: errors and log lines, which messages/ provokes
examples/README.md          indented  2   make, and commands that test_examples.py runs otherwise
examples/guestbook/README.md indented 1   make, whose commands test_guestbook.py runs
examples/guestbook/README.md sh      1   sudo, pip, and systemd, which is not here
docs/howto/mod_wsgi.md      sh        2   apt-get, pip, and systemd, which is not here
docs/howto/scripts.md       sh        2   pip, and a line for cron, which is not here
"""
"""Document, kind of block, how many (* for any number), and why. In docs/howto, one block of the kind ``sh`` on each
page has what pip installs."""


def listed(table: str) -> dict[tuple[str, str], tuple[str, str]]:
    rows = [line.split(maxsplit=3) for line in table.strip().splitlines()]
    found = {(document, kind): (count, rest) for document, kind, count, rest in rows}
    assert len(found) == len(rows), "a row stands twice"
    return found


def blocks(document: Path) -> Counter[str]:
    """How many blocks of each kind a document has."""
    text = document.read_text()
    kinds = Counter(found[2] or "" for found in FENCED.finditer(text))
    kinds["indented"] = len(INDENTED.findall(FENCED.sub("", text)))
    return Counter({kind: count for kind, count in kinds.items() if count and not DIRECTIVES.fullmatch(kind)})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_is_run_or_listed(document: Path) -> None:
    """Each kind of block is in the tables, with as many blocks as the document has."""
    name = str(document.relative_to(ROOT))
    run, not_run = listed(RUN), listed(NOT_RUN)
    for kind, count in blocks(document).items():
        told = [table[name, kind][0] for table in (run, not_run) if (name, kind) in table]
        if not told and document.parent.name == "howto":
            assert kind != "sh" or count == 1
            continue  # followed
        assert told, f"{count} blocks of {kind or 'no kind'}: run them, and list them here"
        assert told == ["*"] or sum(map(int, told)) == count, kind


@pytest.mark.parametrize("row", [*listed(RUN), *listed(NOT_RUN)], ids=" ".join)
def test_each_row_is_about_a_block(row: tuple[str, str]) -> None:
    """No row is about a block that is no longer there, and the tests that it names exist and know the document."""
    name, kind = row
    assert blocks(ROOT / name)[kind]
    _, rest = {**listed(NOT_RUN), **listed(RUN)}[row]
    for test in re.findall(r"\b(?:\w+/)?test_\w+\.py", rest):
        text = (ROOT / "tests" / test).read_text()
        assert row not in listed(RUN) or re.search(rf"\b{Path(name).stem}\b", text), test
