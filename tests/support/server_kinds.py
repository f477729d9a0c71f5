"""How each WSGI server is run, and what it can do: the table by which docs/servers.md is written.

A new server is one more entry in `SERVERS`. Those that have no command line, or one that does not listen to signals,
are run by ``python -m support.servers NAME MODULE:APP PORT``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support import apache

if TYPE_CHECKING:
    from support.servers import Server

HOST = "127.0.0.1"
THREADS = 2
OURS = "{python} -m support.servers {name} {app} {port}"
GUNICORN = "{python} -m gunicorn --bind 127.0.0.1:{port} --graceful-timeout 5"
UWSGI = (
    "{bin}/uwsgi --http-socket 127.0.0.1:{port} --pythonpath {packages} --module {app} --master --single-interpreter"
    " --need-app --die-on-term --disable-logging"
)
PATCHED = "--config python:support.gevent_first"


@dataclass(frozen=True)
class Kind:
    """How one server is run, and what it can do."""

    command: str = OURS
    run: Callable[[Any, int], object] | None = None
    """With the command `OURS`: serves an application on a port until SystemExit is raised in it."""
    processes: int = 1
    threads: int = THREADS
    """Requests that each process serves at once."""
    preloads: bool = False
    """The application is loaded before the fork."""
    recycles: str = ""
    """Arguments that replace a process after so many ``{requests}``."""
    reloads: Callable[[Server], None] | None = None
    """Replaces the processes, while it goes on serving."""
    abandoned: int = 0
    """How many of the connections that the application has used before the fork end without a goodbye."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """What of `servers.page.CHECKS` it does not do, and why. The tests hold it against what they find."""
    shown: str = ""
    """How an application is run with it, for docs/servers.md;"""
    know: str = ""
    """and what to know."""


def _waitress(app: Any, port: int) -> None:
    import waitress

    waitress.serve(app, host=HOST, port=port, threads=THREADS)


def _cheroot(app: Any, port: int) -> None:
    from cheroot.wsgi import Server

    Server((HOST, port), app, numthreads=THREADS).safe_start()


def _werkzeug(app: Any, port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple(HOST, port, app, threaded=True)


def _wsgiref(app: Any, port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server(HOST, port, app).serve_forever()


def _a2wsgi(app: Any, port: int) -> None:
    import uvicorn
    from a2wsgi import WSGIMiddleware

    uvicorn.run(WSGIMiddleware(app, workers=THREADS), host=HOST, port=port, lifespan="off", log_level="warning")


def _hup(server: Server) -> None:
    server.send_signal(signal.SIGHUP)


def _gunicorn(worker: str, processes: int = 1, threads: int = 1, more: str = "", **told: Any) -> Kind:
    words = [GUNICORN, "--worker-class", worker, "--workers", str(processes)]
    if worker == "gthread":
        words += ["--threads", "{threads}"]
    return Kind(
        " ".join([*words, more, "{app}"]), processes=processes, threads=threads, preloads="--preload" in more,
        recycles="--max-requests {requests}", reloads=_hup, **told,
    )  # fmt: skip


def _uwsgi(more: str, processes: int = 1, threads: int = 1, **told: Any) -> Kind:
    return Kind(
        f"{UWSGI} --processes {processes} {more}", processes=processes, threads=threads, preloads=True, abandoned=1,
        recycles="--max-requests {requests} --min-worker-lifetime 0", reloads=_hup, **told,
    )  # fmt: skip


SYNC = {"keep-alive": "a connection for each request"}
ONE_PROCESS = {"reload": "one process", "recycling": "one process"}
HTTP_SOCKET = {"keep-alive": "closes after each response", "chunks": "ends a stream by closing"}
HANDLER = "A handler for SIGTERM, as below."
UWSGI_SHOWN = "`uwsgi --http-socket :8000 --module shop:app --master --die-on-term --single-interpreter"
UWSGI_KNOW = (
    "Loads the application before it forks. Its HTTP/1.1 responses do not say that they close the connection: put a"
    " proxy in front. `max-requests` waits for `min-worker-lifetime`, 60 s by default. A connection that was used"
    " before the fork ends as one aborted client: the master closes nothing. A process that is told to end in the"
    " middle of a request runs no exit handlers: its connections end as aborted clients, too."
)

PLAIN: dict[str, Kind] = {
    "gunicorn sync": _gunicorn(
        "sync", cannot=SYNC, shown="`gunicorn --workers 4 shop:app`",
        know="One request at a time in each process, so `pool_size` 1 is enough. Slow clients are a proxy's.",
    ),
    "gunicorn gthread": _gunicorn(
        "gthread", threads=THREADS, shown="`gunicorn --workers 4 --threads 16 shop:app`",
        know="Its threads stay, so `thread-local` fits, too.",
    ),
    "Waitress": Kind(
        run=_waitress, cannot=ONE_PROCESS, shown="`waitress.serve(app, threads=16)`",
        know=f"{HANDLER} A HEAD of a stream gets the last chunk's bytes, also without wsgidb.",
    ),
    "uWSGI": _uwsgi(
        "--threads {threads}", threads=16, cannot=HTTP_SOCKET, shown=f"{UWSGI_SHOWN} --threads 16`", know=UWSGI_KNOW
    ),
    "Cheroot": Kind(
        run=_cheroot, cannot=ONE_PROCESS, shown='`cheroot.wsgi.Server(("", 8000), app, numthreads=16).safe_start()`',
        know=HANDLER,
    ),
    "Werkzeug": Kind(
        run=_werkzeug, cannot={**SYNC, **ONE_PROCESS},
        shown='`werkzeug.serving.run_simple("localhost", 8000, app, threaded=True)`',
        know=f"For development. A thread for each connection: `thread-local` is pointless. {HANDLER}",
    ),
    "wsgiref": Kind(
        run=_wsgiref, threads=1, cannot={**SYNC, "chunks": "HTTP/1.0: ends a stream by closing", **ONE_PROCESS},
        shown='`wsgiref.simple_server.make_server("", 8000, app).serve_forever()`',
        know=f"For development. One request at a time. {HANDLER}",
    ),
    "a2wsgi on uvicorn": Kind(
        run=_a2wsgi, cannot=ONE_PROCESS, shown="`uvicorn.run(a2wsgi.WSGIMiddleware(app, workers=16))`",
        know=f"WSGI in threads, an event loop around them. Bodies are read to their end though the client has left."
        f" {HANDLER}",
    ),
}  # fmt: skip
"""One process each, and every package that is installed for the tests."""

SERVERS: dict[str, Kind] = {
    **PLAIN,
    "gunicorn gevent": _gunicorn(
        "gevent", threads=16, shown="`gunicorn --worker-class gevent shop:app`",
        know="`pooled`; `thread-local` is a connection per client, and warns. A worker may take a second to end.",
    ),
    "gunicorn sync --preload": _gunicorn(
        "sync", processes=2, more="--preload", cannot=SYNC, shown="`gunicorn --workers 4 --preload shop:app`",
        know="A reload starts new workers with the application that the master has loaded.",
    ),
    "gunicorn gthread --preload": _gunicorn(
        "gthread", processes=2, threads=4, more="--preload",
        shown="`gunicorn --workers 4 --threads 16 --preload shop:app`", know="Likewise.",
    ),
    "gunicorn gevent --preload": _gunicorn(
        "gevent", processes=2, threads=16, more=f"--preload {PATCHED}",
        shown="`gunicorn --worker-class gevent --preload --config patched.py shop:app`",
        know="`patched.py` calls `gevent.monkey.patch_all()`: the application is loaded before the workers patch.",
    ),
    "uWSGI, 4 processes": _uwsgi(
        "", processes=4, cannot=HTTP_SOCKET, shown=f"{UWSGI_SHOWN} --processes 4`",
        know="Likewise; without `--lazy-apps`.",
    ),
    "uWSGI --gevent": _uwsgi(
        "--gevent 16 --gevent-early-monkey-patch", threads=16,
        cannot={**HTTP_SOCKET, "stop": "no exit handlers with gevent: idle connections end as aborted clients"},
        shown=f"{UWSGI_SHOWN} --gevent 16 --gevent-early-monkey-patch`",
        know="Likewise. `pooled`; `thread-local` is a connection per request, and warns.",
    ),
    "Apache mod_wsgi": Kind(
        apache.COMMAND, threads=4, recycles="maximum-requests={requests}", reloads=apache.touch,
        shown="`WSGIDaemonProcess shop processes=2 threads=16`, `WSGIApplicationGroup %{GLOBAL}`,"
        " `WSGIScriptAlias / /srv/shop.py`",
        know="Daemon mode, as Debian's package has it, with Debian's Python. Touching the script reloads.",
    ),
}  # fmt: skip
