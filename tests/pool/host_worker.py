"""A process that uses a Database from several threads: python host_worker.py URL BOARD OPTIONS THREADS SECONDS.

It prints what came of it as JSON, and a line before that once it has its first connection. The file BOARD.pid has when
its connections were opened and closed, a line for each, also if the process is killed."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from wsgidb import Database


class Changes(logging.Handler):
    """When a connection had been opened, and when closing one began."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        change = (": connection opened" in text) - (": connection retired" in text or ": connection discarded" in text)
        if change:
            with self._path.open("a") as file:
                file.write(f"{time.monotonic()!r} {change}\n")


def main(url: str, board: str, options: str, threads: str, seconds: str) -> None:
    logging.getLogger("wsgidb").addHandler(Changes(f"{board}.{os.getpid()}"))
    logging.getLogger("wsgidb").setLevel(logging.DEBUG)
    database = Database(url, board=board, name="shop", **json.loads(options))
    ends = time.monotonic() + float(seconds)
    done = [0] * int(threads)
    errors: list[str] = []
    began = threading.Event()

    def work(number: int) -> None:
        while time.monotonic() < ends:
            try:
                with database.connection() as conn:
                    done[number] += 1
                    cursor = conn.cursor()
                    cursor.execute("SELECT SLEEP(0.002)")
                    cursor.fetchall()
                    cursor.close()
                    began.set()
            except Exception as error:  # noqa: BLE001 - the test wants to see none
                errors.append(repr(error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(int(threads))]
    for worker in workers:
        worker.start()
    began.wait(30)
    print("began", flush=True)
    for worker in workers:
        worker.join()
    told = database.stats()
    database.close()
    found = {"done": sum(done), "by_thread": done, "errors": errors, "failures": told.connect_failures}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
