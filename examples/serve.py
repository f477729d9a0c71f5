"""Serve the demo, or an example application, with Werkzeug's threaded server, after loading the cities if they are
missing.

WSGIDB_URL names the database and WSGIDB_STRATEGY the strategy; every other option has a variable as well.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from werkzeug.serving import WSGIRequestHandler, make_server

from cities import page_of
from load_cities import load_cities
from wsgidb import DatabaseMiddleware
from wsgidb.errors import WsgiDBError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class RequestHandler(WSGIRequestHandler):
    """Passes the query on unchanged: Werkzeug would encode non-ASCII bytes, which curl sends, a second time."""

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ["QUERY_STRING"] = self.path.partition("?")[2]
        return environ


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=port_number, default=8000, help="port; 0 takes a free one (%(default)s)")
    parser.add_argument("--app", default="demo", help="module with the application (%(default)s)")
    return parser.parse_args()


def port_number(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return port


def listen(host: str, port: int) -> socket.socket:
    """Bind the port here, because Werkzeug's server prints a paragraph of advice if the port is in use."""
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python appends the address again
        sys.exit(f"serve.py: cannot listen on {host}:{port}: {reason}")


def serve(application: DatabaseMiddleware, listener: socket.socket, path: str) -> None:
    """Serve until Ctrl+C or SIGTERM. `path` is where to begin."""
    host, port = listener.getsockname()[:2]
    server = make_server(host, port, application, threaded=True, request_handler=RequestHandler, fd=listener.fileno())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = application.database.settings
    print(f"Serving {settings.url} with strategy {settings.strategy}.")
    print(f"Open http://{host}:{port}{path} (Ctrl+C stops)", flush=True)
    server.serve_forever()


def main() -> None:
    arguments = parse_arguments()
    with listen(arguments.host, arguments.port) as listener:
        try:
            module = importlib.import_module(arguments.app)
            application = module.application
            with closing(application.database) as database:
                if added := load_cities(database):
                    print(f"Loaded {added} cities.")
                if arguments.app == "demo":
                    module.prepare()
                serve(application, listener, "/" if arguments.app == "demo" else page_of("London"))
        except WsgiDBError as error:
            sys.exit(f"serve.py: {error}")


if __name__ == "__main__":
    main()
