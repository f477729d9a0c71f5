"""What the option replicas costs a GET: the same application without it and with it, side by side in one run.

    python benchmarks/replica_cost.py       # starts a MariaDB with two replicas, as the tests do

Each line is one way to send the request, in microseconds of CPU time: the minimum of many rounds, and the difference
from the first line. The application runs no statement. With the cookie of a write, both replicas are known to have it.

Target: 5 µs more than without replicas.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.replication import mariadb_replication
from support.wsgi import Call, environment
from wsgidb import DatabaseMiddleware

ROUNDS, REQUESTS = 40, 1000


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["REQUEST_METHOD"] == "POST":
        with environ["db.conn"].cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (1)")
        environ["db.conn"].commit()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
    """What a server's does, as far as it costs wsgidb anything."""


def microseconds(app: Any, environ: dict[str, Any]) -> float:
    began = time.thread_time()
    for _ in range(REQUESTS):
        app(dict(environ), start_response)
    return (time.thread_time() - began) / REQUESTS * 1e6


def main() -> None:
    with mariadb_replication(2) as servers:
        servers.primary.execute("CREATE TABLE written (n INT)")
        plain = DatabaseMiddleware(application, servers.replicas[0].url())
        urls = [each.url() for each in servers.replicas]
        routed = DatabaseMiddleware(application, servers.primary.url(), replicas=urls)
        call = Call(routed, REQUEST_METHOD="POST")
        call.read()
        servers.caught_up()
        cookie = f"session=0123456789abcdef; {call.headers['Set-Cookie'].partition(';')[0]}"
        bare, known = environment(REQUEST_METHOD="GET"), environment(REQUEST_METHOD="GET", HTTP_COOKIE=cookie)
        ways = {
            "without replicas": (plain, bare),
            "replicas, no cookie": (routed, bare),
            "replicas, with a cookie": (routed, known),
        }
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, (app, environ) in ways.items():
                best[name] = min(best.get(name, 1e9), microseconds(app, environ))
        first = best["without replicas"]
        for name, found in best.items():
            print(f"{name:24} {found:6.2f}  {found - first:+6.2f}")


if __name__ == "__main__":
    main()
