"""How each WSGI server is run, and what it can do. The table in docs/compatibility.md is written from this.

A new server is one more entry in `SERVERS`. Servers without a command line, or with one that ignores signals, are run
by ``python -m support.servers NAME MODULE:APP PORT``.
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
GUNICORN = "{python} -m gunicorn --bind 127.0.0.1:{port} --graceful-timeout 5 --keep-alive 30"
"""By itself it keeps a connection for 2 seconds, in which a client on a busy machine need not have asked again."""
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
    """Which of `servers.page.CHECKS` it cannot do, and why. The tests compare this with what they find."""
    shown: str = ""
    """How to run an application with it, for docs/compatibility.md."""
    know: str = ""
    """What a user should know about it, for docs/compatibility.md."""


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


SYNC = {"keep-alive": "closes after each response"}
ONE_PROCESS = {"reload": "one process", "recycling": "one process"}
HTTP_SOCKET = {"keep-alive": "closes after each response", "chunks": "ends a stream by closing the connection"}
HANDLER = "Needs [a handler for SIGTERM](servers.md#servers-that-you-start-from-python)."
UWSGI_SHOWN = "`uwsgi --http-socket :8000 --module shop:app --master --die-on-term --single-interpreter"
UWSGI_KNOW = (
    "It loads the application before it forks. Its HTTP/1.1 responses do not say that they close the connection, so put"
    " a proxy in front of it. `max-requests` takes effect only after `min-worker-lifetime`, 60 s by default. A"
    " connection that was used before the fork ends as one aborted client, because the master process does not close"
    " it. A process that is told to end in the middle of a request runs no exit handlers, so its connections end as"
    " aborted clients too."
)

PLAIN: dict[str, Kind] = {
    "gunicorn sync": _gunicorn(
        "sync", cannot=SYNC, shown="`gunicorn --workers 4 shop:app`",
        know="Each process serves one request at a time, so `pool_size=1` is enough. Put a proxy in front of it,"
        " which waits for slow clients.",
    ),
    "gunicorn gthread": _gunicorn(
        "gthread", threads=THREADS, shown="`gunicorn --workers 4 --threads 16 shop:app`",
        know="Its threads are kept between requests, so `thread-local` is suitable too.",
    ),
    "Waitress": Kind(
        run=_waitress, cannot=ONE_PROCESS, shown="`waitress.serve(app, threads=16)`",
        know=f"{HANDLER} The answer to a HEAD of a stream contains the last chunk, with or without wsgidb.",
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
        know=f"For development only. It starts a thread for each client connection, so use `pooled`. {HANDLER}",
    ),
    "wsgiref": Kind(
        run=_wsgiref, threads=1,
        cannot={**SYNC, "chunks": "HTTP/1.0: ends a stream by closing the connection", **ONE_PROCESS},
        shown='`wsgiref.simple_server.make_server("", 8000, app).serve_forever()`',
        know=f"For development only. It serves one request at a time. {HANDLER}",
    ),
    "a2wsgi on uvicorn": Kind(
        run=_a2wsgi, cannot=ONE_PROCESS, shown="`uvicorn.run(a2wsgi.WSGIMiddleware(app, workers=16))`",
        know="An event loop that runs the WSGI application in threads. It reads a body to its end even if the client"
        f" has left. {HANDLER}",
    ),
}  # fmt: skip
"""One process each, and every package that is installed for the tests."""

SERVERS: dict[str, Kind] = {
    **PLAIN,
    "gunicorn gevent": _gunicorn(
        "gevent", threads=16, shown="`gunicorn --worker-class gevent shop:app`",
        know="Use `pooled`; `thread-local` would open a connection per client, and logs a warning. A worker may take a"
        " second to end.",
    ),
    "gunicorn sync --preload": _gunicorn(
        "sync", processes=2, more="--preload", cannot=SYNC, shown="`gunicorn --workers 4 --preload shop:app`",
        know="A reload starts new workers with the application as the master process has loaded it.",
    ),
    "gunicorn gthread --preload": _gunicorn(
        "gthread", processes=2, threads=4, more="--preload",
        shown="`gunicorn --workers 4 --threads 16 --preload shop:app`", know="As for gunicorn sync --preload.",
    ),
    "gunicorn gevent --preload": _gunicorn(
        "gevent", processes=2, threads=16, more=f"--preload {PATCHED}",
        shown="`gunicorn --worker-class gevent --preload --config patched.py shop:app`",
        know="`patched.py` calls `gevent.monkey.patch_all()`, because the application is loaded before the workers"
        " would do so.",
    ),
    "uWSGI, 4 processes": _uwsgi(
        "", processes=4, cannot=HTTP_SOCKET, shown=f"{UWSGI_SHOWN} --processes 4`",
        know="As for uWSGI. It is tested without `--lazy-apps`.",
    ),
    "uWSGI --gevent": _uwsgi(
        "--gevent 16 --gevent-early-monkey-patch", threads=16,
        cannot={**HTTP_SOCKET, "stop": "no exit handlers with gevent: idle connections end as aborted clients"},
        shown=f"{UWSGI_SHOWN} --gevent 16 --gevent-early-monkey-patch`",
        know="As for uWSGI. Use `pooled`; `thread-local` would open a connection per request, and logs a warning.",
    ),
    "Apache mod_wsgi": Kind(
        apache.COMMAND, threads=4, recycles="maximum-requests={requests}", reloads=apache.touch,
        shown="`WSGIDaemonProcess shop processes=2 threads=16`, `WSGIApplicationGroup %{GLOBAL}`,"
        " `WSGIScriptAlias / /srv/shop.py`",
        know="Tested in daemon mode, with Debian's package and Debian's Python. Touching the script reloads it.",
    ),
}  # fmt: skip
