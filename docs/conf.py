"""The settings of Sphinx for the documentation's site, which `make docs` builds from the pages of this directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import wsgidb

DOCS = Path(__file__).parent
ELSEWHERE = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "project/changes.md",
    "../CODE_OF_CONDUCT.md": "project/conduct.md",
    "../CONTRIBUTING.md": "project/contributing.md",
    "../SECURITY.md": "project/security.md",
    "../examples/README.md": "project/examples.md",
    "../examples/guestbook/README.md": "project/guestbook.md",
}
"""The pages that include a document from outside of this directory. A link to the document leads to the page."""

LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
FILE = re.compile(r"(docs/)?(howto/)?[\w-]+\.md")

project = "wsgidb"
version = release = wsgidb.__version__
author = "wsgidb contributors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_class_signature = "separated"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"wsgidb {release}"
html_copy_source = False
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")  # what search engines show of several versions


def with_links_from(folder: Path, page: str, text: str) -> str:
    """The text of a document that lies in `folder`, with its links as they have to be in `page` of the site.

    Where a link is called by the name of its file, it is called by the title of the page instead."""

    def moved(found: re.Match[str]) -> str:
        name, target, anchor = found.groups()
        target = os.path.relpath(folder / target, DOCS)
        target = os.path.relpath(DOCS / ELSEWHERE.get(target, target), (DOCS / page).parent)
        return f"[{'' if FILE.fullmatch(name) else name}]({target}{anchor or ''})"

    return LINK.sub(moved, text)


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = with_links_from((DOCS / page).parent, page, source[0])


def read_included(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    document = os.path.normpath(path)
    source[0] = with_links_from((DOCS / document).parent, ELSEWHERE[document], source[0])


def read_docstring(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Docstrings name pages as files, and those of modules have blocks of code without a mark."""
    for number, line in enumerate(lines):
        line = re.sub(r"\bdocs/([\w/-]+)\.md\b", r":doc:`/\1`", line)
        lines[number] = re.sub(r"\boption `(\w+)`", r"option ``\1``", line)  # not an attribute of that name
    if what == "module":
        starts = [at for at, line in enumerate(lines) if at and line.startswith("    ") and not lines[at - 1]]
        for at in reversed(starts):
            if not next(line for line in reversed(lines[:at]) if line).startswith("    "):
                lines[at:at] = [".. code-block:: python", ""]


def setup(app: Sphinx) -> None:
    app.add_lexer("haproxy", TextLexer)  # Pygments has none for it
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-docstring", read_docstring)
