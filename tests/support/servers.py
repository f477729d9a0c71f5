"""Real WSGI servers, each a process of its own, and a client that shows every byte they send."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import bind
from support.waiting import until

SERVERS = ("gunicorn-sync", "gunicorn-gthread", "waitress", "werkzeug", "wsgiref")

# Of a program that gets: module of the application, port. The names are those of its servers.
PROGRAMS = {
    "waitress": "import waitress; waitress.serve(app, host='127.0.0.1', port=port, threads=4, _quiet=True)",
    "werkzeug": "from werkzeug.serving import run_simple; run_simple('127.0.0.1', port, app, threaded=True)",
    "wsgiref": "from wsgiref.simple_server import make_server; make_server('127.0.0.1', port, app).serve_forever()",
}
START = "import sys, importlib; port = int(sys.argv[2]); app = importlib.import_module(sys.argv[1]).application; "


def command(server: str, module: str, port: int) -> list[str]:
    kind, _, worker = server.partition("-")
    if kind != "gunicorn":
        return [sys.executable, "-c", START + PROGRAMS[kind], module, str(port)]
    options = ["-b", f"127.0.0.1:{port}", "-k", worker, "--threads", "4" if worker == "gthread" else "1"]
    return [sys.executable, "-m", "gunicorn", *options, "--no-control-socket", f"{module}:application"]


@contextmanager
def serving(server: str, module: str, log: Path, **environment: str) -> Iterator[int]:
    """Serve ``application`` of a top-level `module` of the tests; yields the port."""
    reserved = bind()
    port: int = reserved.getsockname()[1]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    env = {**os.environ, "PYTHONPATH": paths, **environment}
    with (
        reserved,
        log.open("wb") as out,
        subprocess.Popen(
            command(server, module, port), env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True, cwd=log.parent,
        ) as process,
    ):  # fmt: skip
        try:
            until(lambda: process.poll() is not None or _answers(port), 30, f"{server} to answer")
            assert process.poll() is None, f"{server} ended: {log.read_text()[-3000:]}"
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too: there is nothing worth a farewell


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def raw(port: int, path: str, method: str = "GET", *, close: bool = True) -> bytes:
    """Every byte of the response to one request, up to the end of the connection; without its date."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        ending = "Connection: close\r\n" if close else ""
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{ending}\r\n".encode())
        data = b""
        try:
            while piece := client.recv(65536):
                data += piece
        except ConnectionResetError:
            data += b"<reset>"
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", data)
