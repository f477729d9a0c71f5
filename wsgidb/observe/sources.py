"""Where the status page, the command line and the Prometheus collector get their figures from."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from ..pool.durations import Durations
from ..pool.stats import Stats
from .recent import History, Recent
from .rows import Row
from .total import total

if TYPE_CHECKING:
    from ..database import Database


@dataclass(frozen=True)
class Pool:
    """The pools of one name in all processes, as one."""

    name: str
    """Their name."""
    rows: list[Row]
    """What each process tells that is alive, by process id."""
    gone: Stats | None
    """The sums of processes that are gone, if there are any."""

    @cached_property
    def now(self) -> Stats:
        """The present of all processes that are alive."""
        return total(self.name, [row.stats for row in self.rows])

    @cached_property
    def ever(self) -> Stats:
        """The sums since the board began; processes that are gone are included."""
        return total(self.name, [*([] if self.gone is None else [self.gone]), *(row.stats for row in self.rows)])

    @cached_property
    def recent(self) -> Recent:
        """What is new since a few minutes ago."""
        each = [row.recent for row in self.rows]
        return Recent(
            max([recent.seconds for recent in each], default=0.0),
            sum((recent.wait_times for recent in each), Durations()),
            sum((recent.use_times for recent in each), Durations()),
            sum((recent.queue_times for recent in each), Durations()),
        )


class Source:
    """The figures of a Database and its replicas: of all processes where it has a board, otherwise of this one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # guards `_histories`
        self._histories = {database.name: History(monotonic())}

    def pools(self) -> list[Pool]:
        """All pools that are known, this Database's first. Blocks for reading the files of the board only. Never raises
        because of the board."""
        own = self._own(self._database)
        stats = own.stats
        if self._database.settings.board is None:
            replicas = [self._own(replica) for replica in self._database.replicas]
            return [Pool(row.stats.name, [row], None) for row in (own, *replicas)]
        from .board import read

        rows, gone = read(self._database.settings.board)
        mine = rows.setdefault(stats.name, [])
        written = next((row for row in mine if row.stats.pid == stats.pid), None)
        if written is not None:
            mine.remove(written)
            own = Row(stats, written.recent, 0.0)
        mine.append(own)
        return _pools(rows, gone, stats.name)

    def _own(self, database: Database) -> Row:
        """What this process itself tells."""
        stats, now = database.stats(), monotonic()
        with self._lock:
            history = self._histories.setdefault(stats.name, History(now))
            return Row(stats, history.recent(stats, now), 0.0)


def pools_of_board(directory: str) -> list[Pool]:
    """All pools of a board, for a process that may have no Database. Blocks for reading its files only. Never raises
    because of the board: what cannot be read is a warning, and is left out."""
    from .board import read

    return _pools(*read(directory))


def _pools(rows: dict[str, list[Row]], gone: dict[str, Stats], first: str | None = None) -> list[Pool]:
    names = sorted({*rows, *gone}, key=lambda name: (name != first, name))
    return [Pool(name, sorted(rows.get(name, []), key=lambda row: row.stats.pid), gone.get(name)) for name in names]
