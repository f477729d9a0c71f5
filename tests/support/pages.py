"""Tables in the documentation that tests write, or compare with what they find.

``pytest --update-docs`` writes; a table stands between ``<!-- NAME: … -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from support.datadir import private_cache

Row = tuple[str, ...]
Key = tuple[str, str]
"""A row's first two cells."""


class Table:
    """One generated table of a page. Several workers may update it at once, each with its own rows."""

    def __init__(self, page: Path, name: str, header: Sequence[str], keys: Iterable[Key]) -> None:
        """The table must have the rows with these `keys`, in this order."""
        self.page, self.name, self.header, self.keys = page, name, tuple(header), list(keys)
        self._pattern = re.compile(rf"(<!-- {name}: [^\n]* -->\n)(.*)(<!-- end of {name} -->\n)", re.DOTALL)

    @property
    def rows(self) -> dict[Key, Row]:
        """The rows on the page, in its order."""
        return self._parse(self._find(self.page.read_text())[2])

    def update(self, rows: dict[Key, Row]) -> None:
        """Write these rows to their places, and remove rows whose key is unknown."""
        with FileLock(private_cache() / f"{self.name}.lock", timeout=60):
            text = self.page.read_text()
            found = self._find(text)
            every = {**self._parse(found[2]), **rows}
            lines = [self.header, tuple("---" for _ in self.header), *(every[key] for key in self.keys if key in every)]
            table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
            self.page.write_text(f"{text[: found.start(2)]}{table}{text[found.end(2) :]}")

    def _find(self, text: str) -> re.Match[str]:
        found = self._pattern.search(text)
        assert found is not None, f"{self.page} has no place for the table {self.name}"
        return found

    @staticmethod
    def _parse(table: str) -> dict[Key, Row]:
        rows = [tuple(cell.strip() for cell in line.strip("| \n").split("|")) for line in table.splitlines()[2:]]
        return {(row[0], row[1]): row for row in rows}
