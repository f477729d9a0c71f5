"""Several servers under load while they fail: `make cluster` writes the table of docs/scale.md.

    python benchmarks/failovers.py [--only TEXT] [--write-docs]

It needs the packages of `make test` and starts its own servers: a Galera cluster, MariaDB and PostgreSQL with replicas,
HAProxy and PgBouncer. It exits with 1 if an acknowledged write was lost, if one was done twice or was refused and done,
or if the money does not add up.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cluster import plan
from cluster.ledger import Row
from cluster.scenarios import CLIENTS

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="scenarios with this text in their name or servers")
    parser.add_argument("--write-docs", action="store_true", help="write the table, or these rows, into docs/scale.md")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    found: list[Row] = []
    for row in plan.rows(given.only):
        found.append(row)
        print(f"{time.monotonic() - began:4.0f} s: {' | '.join(plan.cells(row))}; {dict(row.kinds)}", flush=True)
    python = f"Python {platform.python_version()}"
    head = f"`make cluster`; {date.today()}; {CLIENTS} clients; Linux {platform.release()}, {python}."
    table = [plan.cells(row) for row in found]
    if given.write_docs:
        plan.write(PAGE, head, table, others=bool(given.only))
    print(f"\n{head}\n\n{plan.table(table)}")
    return int(not found or not all(row.right for row in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
