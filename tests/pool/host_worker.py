"""A process that uses a Database from several threads: python host_worker.py URL BOARD OPTIONS THREADS SECONDS.

It prints what came of it as JSON, and a line before that once it has its first connection."""

from __future__ import annotations

import json
import sys
import threading
import time

from wsgidb import Database


def main(url: str, board: str, options: str, threads: str, seconds: str) -> None:
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
