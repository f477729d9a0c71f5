"""What happens to several servers while an application uses them, and what came of it.

Each scenario is run by real clients over HTTP, with an application in gunicorn. A row of `ledger.Row` has what the
clients were told and what the servers have in the end.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wsgidb
from cluster.ledger import Row, audit, prepare
from faults.load import Seen, Site
from support.galera import Galera
from support.haproxy import HAProxy
from support.servers import Server

TESTS = Path(__file__).parents[1]
PATH = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
CLIENTS = 8
OPTIONS: dict[str, Any] = {
    "pool_size": CLIENTS,
    # A request that is repeated must get its next connection by then.
    "acquire_timeout": 30,
    # Longer than a commit waits while Galera gives up a node, which is 6 seconds: its result would be in doubt.
    "read_timeout": 12,
    "write_timeout": 12,
}
MORE = 50
"""So many requests must be served before the fault, after it, and after it is over."""


@dataclass
class Stage:
    """The servers of a scenario, and the url with which an application uses them."""

    url: str
    servers: str
    settle: Callable[[], Any]
    """Waits until all servers run and have the same data, and returns one that has it."""
    parts: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


Fault = Callable[[Stage, Site, Seen], None]


def run(name: str, stage: Stage, fault: Fault, retry: int = 0, **options: Any) -> Row:
    """Run one scenario. Its clients send PUT, which may be repeated."""
    server = stage.settle()
    prepare(server)
    chosen = {**OPTIONS, **stage.options, **options, **({"retry": retry} if retry else {})}
    environ = {"CLUSTER_URL": stage.url, "CLUSTER_OPTIONS": json.dumps(chosen)}
    with tempfile.TemporaryDirectory(prefix="wsgidb-") as folder:
        log = Path(folder) / "log"
        with Server("gunicorn gthread", "cluster.app:application", log, PATH, CLIENTS, **environ) as served:
            site = Site(served)
            try:
                with site.load("transfer", CLIENTS, "PUT") as seen:
                    seen.more(count=MORE)
                    fault(stage, site, seen)
                    seen.more(count=MORE)
            except BaseException:
                print(log.read_text(errors="replace")[-5000:])
                raise
    return audit(stage.settle(), seen, name, stage.servers, retry)


# -- Galera


@contextmanager
def galera() -> Iterator[Galera]:
    with Galera() as cluster:
        yield cluster


def hosts_of(cluster: Galera, query: str = "target_session_attrs=read-write", servers: str = "Galera, hosts") -> Stage:
    """The url has all nodes; the first one that is fit gets all connections."""
    return Stage(cluster.url(query=query), servers, _settled(cluster), {"writer": cluster.nodes[0], "cluster": cluster})


def behind(proxy: HAProxy, cluster: Galera) -> Stage:
    """The url has HAProxy's address only."""
    parts = {"writer": cluster.nodes[0], "cluster": cluster, "proxy": proxy}
    settled = _settled(cluster)

    def settle() -> Any:
        server = settled()
        proxy.wait("n1", "UP")
        return server

    return Stage(proxy.url(), "Galera, HAProxy", settle, parts)


def _settled(cluster: Galera) -> Callable[[], Any]:
    def settle() -> Any:
        cluster.settle(len(cluster.nodes))
        return cluster.nodes[0]

    return settle


# -- faults


def killed(stage: Stage, site: Site, seen: Seen) -> None:
    """kill -9 of the server that has all connections; later it comes back."""
    writer = stage.parts["writer"]
    writer.kill()
    seen.more(count=MORE)
    writer.start()


def stopped(stage: Stage, site: Site, seen: Seen) -> None:
    """The same, but it is shut down."""
    writer = stage.parts["writer"]
    writer.stop()
    seen.more(count=MORE)
    writer.start()


def frozen(stage: Stage, site: Site, seen: Seen) -> None:
    """It hangs, until the others have given it up and go on; then it goes on, too, and joins them again."""
    writer = stage.parts["writer"]
    writer.freeze()
    seen.more(count=2 * MORE)
    writer.thaw()


def no_quorum(stage: Stage, site: Site, seen: Seen) -> None:
    """Two of three nodes are killed, and the third one takes no statements until they are back."""
    _, *others = stage.parts["cluster"].nodes
    for node in others:
        node.kill()
    seen.more("503", MORE)
    cluster = stage.parts["cluster"]
    cluster.bootstrap(cluster.nodes[0])
    seen.more(count=MORE)
    for node in others:
        node.start()


def nothing(stage: Stage, site: Site, seen: Seen) -> None:
    """The servers are well, and all of them are written to."""
    seen.more(count=20 * MORE)


def failed_back(stage: Stage, site: Site, seen: Seen) -> None:
    """It was stopped, comes back, and HAProxy gives it all new connections again; existing ones are left alone."""
    writer, proxy = stage.parts["writer"], stage.parts["proxy"]
    writer.stop()
    seen.more(count=MORE)
    writer.start()
    proxy.wait("n1", "UP")
    site.get("/drain/0")
    seen.more(count=10 * MORE)


def switched(stage: Stage, site: Site, seen: Seen) -> None:
    """A planned switch-over: HAProxy leads new connections to the next node, the application renews its own, and then
    the first node is stopped."""
    writer, proxy = stage.parts["writer"], stage.parts["proxy"]
    proxy.command("set server database/n1 state drain")
    site.get("/drain/0")
    until_unused(writer, seen)
    writer.stop()
    seen.more(count=MORE)
    writer.start()
    proxy.command("set server database/n1 state ready")
    proxy.wait("n1", "UP")


def until_unused(writer: Any, seen: Seen) -> None:
    """Wait until no session of the application's is left on a server."""
    deadline = time.monotonic() + 30
    while writer.processes("guest"):
        assert time.monotonic() < deadline, "the application still uses the server"
        seen.more(count=5)


def do_together(work: Callable[[int], object], arguments: Iterable[int]) -> None:
    """Call it with each argument, in as many threads."""
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
