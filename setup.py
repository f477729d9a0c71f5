"""The description of the package for an index: the README, whose links lead to the documentation's site there.

All other metadata is in setup.cfg.
"""

import os
import re
import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def page_of(document: str) -> str:
    """The page of the site that a document of this repository is, or is included by; or the place of an image."""
    if document.endswith(".png"):
        return f"_images/{Path(document).name}"
    path = ROOT / document
    for page in (ROOT / "docs").rglob("*.md"):
        if page == path or f"```{{include}} {os.path.relpath(path, page.parent)}\n" in page.read_text():
            return str(page.relative_to(ROOT / "docs").with_suffix(".html"))
    raise ValueError(f"README.md: {document} is no page of the site")


def description() -> str:
    """The README with absolute links. A link to a page leads to the one of the newest release."""
    site = runpy.run_path(str(ROOT / "wsgidb" / "errors.py"))["SITE"]
    text = (ROOT / "README.md").read_text()
    return LINK.sub(lambda found: f"]({site}page/{page_of(found[1])}{found[2] or ''})", text)


if __name__ == "__main__":
    setup(long_description=description())
