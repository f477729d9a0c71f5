"""Three MariaDB servers that are one Galera cluster, on loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit
from uuid import uuid4

import pymysql
import pytest

from support.datadir import FAST, hand_over, run_as
from support.mariadb import MariaDB
from support.ports import bind
from support.waiting import until

LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
NAMES = ("n1", "n2", "n3")
SETTINGS = {
    "wsrep-on": "ON",
    "wsrep-cluster-name": "wsgidb",
    "binlog-format": "ROW",
    "innodb-autoinc-lock-mode": "2",
}
KEPT = "32M"
"""How much a node keeps of what others may have missed."""

TRANSFER = """\
#!/bin/sh
# A method of state transfer for nodes that see each other's directories. A node that joins gets the transactions that
# it has missed from another one's memory, from Galera itself; only the position is left to the method. It refuses a
# whole copy, for which the scripts and tools of Debian's package mariadb-server would be needed.
while [ $# -gt 0 ]; do
    case $1 in
    --role) role=$2 ;;
    --address) address=$2 ;;
    --datadir) datadir=${2%/} ;;
    --gtid) position=$2 ;;
    --bypass) bypass=yes ;;
    esac
    shift
done
case $role in
joiner)
    rm -f "$datadir/position"
    echo "ready 127.0.0.1$datadir"
    for _ in $(seq 600); do
        [ -e "$datadir/position" ] && exec cat "$datadir/position"
        sleep 0.05
    done
    exit 110 # ETIMEDOUT
    ;;
donor)
    [ -n "$bypass" ] || exit 95 # EOPNOTSUPP
    target=${address#127.0.0.1}
    echo continue
    echo "$position" >"$target/position.new"
    mv "$target/position.new" "$target/position"
    echo "done $position"
    ;;
esac
"""


def find_library() -> str:
    """Galera itself; without it a loud skip, and a failure in CI."""
    for path in LIBRARIES:
        if Path(path).exists():
            return path
    message = "no Galera here: install it (Debian: apt-get install galera-4)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Node(MariaDB):
    """One server of the cluster. After a `kill` it finds its position in its own data, as galera_recovery does."""

    def __init__(self, name: str) -> None:
        library = find_library()
        self.name = name
        self.joins = ""
        """The address of the cluster; an empty one is that of a new cluster."""
        # Two ports one after the other: for the other nodes, and for the transactions that it has missed.
        while True:
            first = bind()
            try:
                self._group = (first, bind(first.getsockname()[1] + 1))
                break
            except OSError:
                first.close()
        port: int = self._group[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        provider = {
            "base_host": "127.0.0.1",
            "base_port": port,
            "gmcast.listen_addr": f"tcp://{self.address}",
            "ist.recv_addr": f"127.0.0.1:{port + 1}",
            "gcache.size": KEPT,
        }
        super().__init__(
            *(f"--{name}={value}" for name, value in SETTINGS.items()),
            f"--wsrep-provider={library}",
            f"--wsrep-provider-options={';'.join(f'{name}={value}' for name, value in provider.items())}",
            f"--wsrep-node-name={name}",
            "--wsrep-node-address=127.0.0.1",
            "--wsrep-sst-method=nearby",
        )
        self._own = self.options
        script = self.directory / "wsrep_sst_nearby"
        script.write_text(TRANSFER)
        script.chmod(0o755)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, timeout: float = 60) -> None:
        """Start, unless it runs already, and return when it takes part in the cluster."""
        if self.running:
            return
        self.options = [*self._own, f"--wsrep-cluster-address=gcomm://{self.joins}"]
        # The server looks for its method of state transfer there.
        path, os.environ["PATH"] = os.environ["PATH"], f"{self.directory}{os.pathsep}{os.environ['PATH']}"
        try:
            if (position := self._recovered()) is not None:
                self.options.append(f"--wsrep-start-position={position}")
            super().start(timeout)
        finally:
            os.environ["PATH"] = path

    def _recovered(self) -> str | None:
        """Where it stood when it was killed, or None if it was not."""
        state = (self.data / "grastate.dat").read_text()
        if "seqno:   -1" not in state:
            return None
        command = [self.mariadbd, "--no-defaults", f"--datadir={self.data}", f"--tmpdir={self.data}", "--wsrep-recover"]
        command += [f"--socket={self.socket}", "--skip-networking", *FAST, *self.options]
        if user := run_as():
            command.append(f"--user={user}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        found = re.search(r"Recovered position: ([0-9a-f-]+:-?\d+)", done.stderr)
        if found is None:
            raise RuntimeError(f"{self.name} has no position to recover:\n{done.stderr[-2000:]}")
        return found[1]

    def _answers(self) -> bool:
        return self.ready

    @property
    def ready(self) -> bool:
        """Whether it takes statements: a login, and a statement without a table, prove nothing."""
        try:
            connection = self._connect(timeout=2)
        except pymysql.Error:
            return False
        try:
            connection.cursor().execute("SELECT 1 FROM mysql.user LIMIT 1")
        except pymysql.Error:
            return False
        finally:
            connection.close()
        return True

    def close(self) -> None:
        super().close()
        for port in self._group:
            port.close()


class Galera:
    """A cluster of three nodes, each with users and database as `MariaDB` has them; a context manager.

    Its time-outs are Galera's own: a node that was killed or has hung is given up after 5 seconds.
    """

    def __init__(self) -> None:
        find_library()
        self.nodes: list[Node] = []

    def __enter__(self) -> Galera:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.close()

    def _start(self) -> None:
        for name in NAMES:
            self.nodes.append(Node(name))
        first, *others = self.nodes
        saved = first.data / "grastate.dat"
        # Once by itself, so that its data has a position; the others begin with a copy of that.
        saved.write_text(f"version: 2.1\nuuid:    {uuid4()}\nseqno:   0\nsafe_to_bootstrap: 1\n")
        hand_over(saved)
        first.start()
        first.execute("CREATE TABLE started (id INT PRIMARY KEY)")
        first.stop()
        for node in others:
            shutil.rmtree(node.data)
            subprocess.run(["cp", "-a", "--", str(first.data), str(node.data)], check=True, timeout=60)
            (node.data / "galera.cache").unlink()
        first.start()
        for node in others:
            node.joins = ",".join(each.address for each in self.nodes)
            node.start()
        first.joins = others[0].joins
        self.settle(3)

    def settle(self, size: int) -> None:
        """Wait until so many nodes, all that run, take statements, know of each other, and have the same data. Nobody
        may write meanwhile."""
        running = [node for node in self.nodes if node.running]

        def settled() -> bool:
            if not all(node.ready and node.status("wsrep_cluster_size") == size for node in running):
                return False
            return len({node.status("wsrep_last_committed") for node in running}) == 1

        until(settled, 60, f"a cluster of {size} nodes")

    def bootstrap(self, node: Node) -> None:
        """Make the node, which has lost the others, a cluster of its own that they may join."""
        node.execute("SET GLOBAL wsrep_provider_options='pc.bootstrap=YES'")
        until(lambda: node.ready, 30, f"{node.name} to be ready")

    def url(self, user: str = "guest", nodes: list[Node] | None = None, query: str = "") -> str:
        """The url with several hosts, all of them or `nodes`."""
        parts = urlsplit(self.nodes[0].url(user))
        login = parts.netloc.rpartition("@")[0]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes or self.nodes)
        return parts._replace(netloc=f"{login}@{hosts}", query=query).geturl()
