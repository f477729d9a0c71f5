"""The board: a directory in which each process keeps the statistics of its Databases, so that any process can read all.

Each Database of each process has a file of its own, which it alone writes. A lock of the operating system on that file
ends with the process, however it ends. So a reader knows what is left over from a process that is gone: it adds the
sums to those of the departed, and removes the file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import ENOSPC
from secrets import token_hex
from time import monotonic

from ..pool.durations import Durations
from ..pool.stats import Stats
from .recent import History, Recent
from .rows import Row, decode, encode
from .total import departed, total

log = logging.getLogger("wsgidb")

SUFFIX, DEPARTED, LOCK = ".row", "departed", "lock"
NOTHING = Recent(0.0, Durations(), Durations())
TRIES = 3
"""How often a row is read that is being written at that moment."""

_own: dict[str, tuple[int, int]] = {}
"""The files that are written here, each with the process's id and the descriptor. A process that opened and closed its
own file a second time would give up its lock."""

_reading = threading.Lock()  # files are locked by processes, not by threads


class Page:
    """The file of one Database in this process. Any thread may call it; while one writes, the others do not wait."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._busy = threading.Lock()
        self._path = ""
        self._file = -1
        self._closed = False
        self._history = History(monotonic())
        self._warned = False

    @property
    def written(self) -> bool:
        """Whether there is a row of this process's."""
        return self._file >= 0

    def write(self, stats: Callable[[], Stats]) -> None:
        """Write the statistics of now, unless another thread does so already. Never blocks on a lock, and never raises
        an Exception: a full disk is a warning in the log, once."""
        if self._closed or not self._busy.acquire(blocking=False):
            return
        try:
            if self._file < 0 or not os.fstat(self._file).st_nlink:  # somebody has tidied up
                self._open()
            now = monotonic()
            told = stats()
            data = encode(told, self._history.recent(told, now), now)
            if os.pwrite(self._file, data, 0) < len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            self._warned = False
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the board, requests go on
            if not self._warned:
                log.warning("board: %s cannot be written: %s: %s", self._directory, type(error).__name__, error)
            self._warned = True
        finally:
            self._busy.release()

    def _open(self) -> None:
        self._close()
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = os.path.join(self._directory, f"{os.getpid()}-{token_hex(8)}{SUFFIX}")
        self._file = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._path = path
        _own[path] = os.getpid(), self._file
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before a reader can see it
        os.rename(f"{path}.new", path)

    def _close(self) -> None:
        _own.pop(self._path, None)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Let the row be one of a process that is gone. Blocks for a write that is under way."""
        with self._busy:
            self._closed = True
            self._close()


def read(directory: str) -> tuple[dict[str, list[Row]], dict[str, Stats]]:
    """The rows of all processes that are alive, and the sums of those that are gone, both by the name of the Database.

    Blocks for reading these files only. Never raises an Exception: what cannot be read is a warning, and is left out.
    """
    rows: dict[str, list[Row]] = {}
    gone: dict[str, Stats] = {}
    with suppress(FileNotFoundError), _reading:  # else no process has written anything yet
        try:
            with locked(os.path.join(directory, LOCK)):
                gone = _departed(directory)
                _collect(directory, rows, gone)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - an unreadable board is an empty one
            log.warning("board: %s cannot be read: %s: %s", directory, type(error).__name__, error)
    return rows, gone


def _collect(directory: str, rows: dict[str, list[Row]], gone: dict[str, Stats]) -> None:
    """Read the rows; add those of processes that are gone to the sums, and remove their files."""
    with ExitStack() as files:
        left = []
        for path in sorted(entry.path for entry in os.scandir(directory) if entry.name.endswith(SUFFIX)):
            own = _own.get(path, (0, 0))
            if own[0] == os.getpid():
                file, alive = own[1], True
            else:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                files.callback(os.close, file)
                alive = not _lock(file)
            row = _row(file, path)
            if not alive:
                left.append(path)
            if row is not None and alive:
                rows.setdefault(row.stats.name, []).append(row)
            elif row is not None:
                name = row.stats.name
                gone[name] = total(name, [*([gone[name]] if name in gone else []), departed(row.stats)])
        if left:
            _write_departed(directory, gone)
            for path in left:
                os.unlink(path)


def _row(file: int, path: str) -> Row | None:
    """The row in a file; None if there is none that can be read."""
    for attempt in range(TRIES):
        try:
            return decode(os.pread(file, os.fstat(file).st_size, 0), monotonic())
        except (ValueError, KeyError, TypeError) as error:
            if attempt == TRIES - 1:
                log.warning("board: %s has no row that can be read: %s", path, error)
    return None


def _departed(directory: str) -> dict[str, Stats]:
    """The sums of the processes that are gone, as the last reader has left them."""
    try:
        with open(os.path.join(directory, DEPARTED), "rb") as file:
            told: dict[str, str] = json.loads(file.read())
        return {name: decode(text.encode(), 0.0).stats for name, text in told.items()}
    except FileNotFoundError:
        return {}


def _write_departed(directory: str, gone: dict[str, Stats]) -> None:
    told = {name: encode(stats, NOTHING, 0.0).decode() for name, stats in gone.items()}
    path = os.path.join(directory, DEPARTED)
    with open(f"{path}.new", "wb") as file:
        leave_to_owner(file.fileno(), directory)
        file.write(json.dumps(told).encode())
    os.replace(f"{path}.new", path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of all readers, which is held briefly only."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        leave_to_owner(file, os.path.dirname(path))
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def leave_to_owner(file: int, directory: str) -> None:
    """Where root looks at another user's board: give that user the file, or else only root could read the board."""
    owner = os.stat(directory)
    if owner.st_uid != os.geteuid():
        os.fchown(file, owner.st_uid, owner.st_gid)


def _lock(file: int) -> bool:
    """Take the lock of a file, if no living process has it. It ends when the file is closed."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
