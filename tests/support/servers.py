"""The WSGI servers that install from PyPI, each as a process of its own on a free port.

A new server is one more entry in `SERVERS`. Those that have no command line, or one that does not listen to signals,
are run by this very module: ``python -m support.servers NAME MODULE:APP PORT``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from support.ports import bind
from support.waiting import until

HOST = "127.0.0.1"
THREADS = 2
GUNICORN = "{python} -m gunicorn --bind 127.0.0.1:{port} --workers 1 --graceful-timeout 5"
UWSGI = (
    "{bin}/uwsgi --http-socket 127.0.0.1:{port} --pythonpath {packages} --module {app} --threads {threads}"
    " --single-interpreter --need-app --die-on-term --disable-logging"
)
OURS = "{python} -m support.servers {name} {app} {port}"


@dataclass(frozen=True)
class Kind:
    """How one server is run."""

    command: str = OURS
    run: Callable[[Any, int], object] | None = None
    """With the command `OURS`: serves an application on a port until SystemExit is raised in it."""
    exits: int = 0
    """Its exit status after SIGTERM."""


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


SERVERS: dict[str, Kind] = {
    "gunicorn sync": Kind(f"{GUNICORN} {{app}}"),
    "gunicorn gthread": Kind(f"{GUNICORN} --worker-class gthread --threads {{threads}} {{app}}"),
    "Waitress": Kind(run=_waitress),
    "uWSGI": Kind(UWSGI, exits=30),  # its own number for having been told
    "Cheroot": Kind(run=_cheroot),
    "Werkzeug": Kind(run=_werkzeug),
    "wsgiref": Kind(run=_wsgiref),
    "a2wsgi on uvicorn": Kind(run=_a2wsgi),
}


class Server:
    """One running server; a context manager. `log` gets all it says."""

    def __init__(
        self, name: str, app: str, log: Path, path: list[str], threads: int = THREADS, /, **environ: str
    ) -> None:
        """*app* is ``module:name``, found in *path*; *environ* is added to ours. *threads* is for those that have a
        command line."""
        self.name, self.log, self.kind = name, log, SERVERS[name]
        self._reserved = bind()  # held until the end, so that nobody else is given the port
        self.port: int = self._reserved.getsockname()[1]
        # uWSGI brings its own Python, which knows nothing of a virtual environment (--home would hide the system's own
        # modules from it where that Python is Debian's).
        packages = sysconfig.get_path("purelib")
        places = {"python": sys.executable, "bin": str(Path(sys.executable).parent), "packages": packages}
        words = self.kind.command.split()
        command = [word.format(name=name, app=app, port=self.port, threads=threads, **places) for word in words]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGIDB_")}
        settings = {**inherited, "PYTHONPATH": os.pathsep.join(path), **environ}
        with log.open("ab") as out:
            # Should this process be killed, the kernel ends the server.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=settings, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Server:
        try:
            until(self._answers, 30, f"{self.name} to listen")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"{self.name} ended: {self.said}"
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The pids of the processes that it has started itself."""
        text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def stop(self) -> None:
        """Ask it to end; it must do so, and well."""
        self._process.terminate()
        try:
            status = self._process.wait(20)
        finally:
            self.kill()
        assert status == self.kind.exits, f"{self.name} ended with {status}: {self.said[-3000:]}"

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group, of its workers
        self._process.wait()
        self._reserved.close()


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    _, _name, _app, _port = sys.argv
    signal.signal(signal.SIGTERM, _end)
    _module, _, _attribute = _app.partition(":")
    _run = SERVERS[_name].run
    assert _run is not None, f"{_name} has a command of its own"
    _run(getattr(import_module(_module), _attribute), int(_port))
