"""The picture of the table: requests per second of each row, as a ratio to the limit, by the number of clients."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from peers import LIMIT
from served import CLIENTS, of

TITLES = {"served pymysql flask": "Flask, PyMySQL", "served pymysql wsgi": "plain WSGI, PyMySQL"}


def draw(figures: dict[str, Any], file: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "wsgidb"  # the same figures make the same file
    _, panels = plt.subplots(1, len(TITLES), figsize=(12, 5.5), sharey=True)
    for panel, (key, title) in zip(panels, TITLES.items(), strict=True):
        found = figures[key]
        for name in found:
            rates = [
                median(of(found, name, clients, "rate")) / median(of(found, LIMIT, clients, "rate"))
                for clients in CLIENTS
            ]
            ours = name.startswith("wsgidb")
            panel.plot(range(len(CLIENTS)), rates, "o-" if ours else "s--", label=name, linewidth=2 if ours else 1)
        panel.set_xticks(range(len(CLIENTS)), [str(clients) for clients in CLIENTS])
        panel.set_xlabel("clients")
        panel.set_title(title)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("requests/s, × one unchecked connection per thread")
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    plt.gcf().legend(handles, labels, loc="lower center", ncol=4, fontsize="small", frameon=False)
    plt.tight_layout(rect=(0, 0.16, 1, 1))
    plt.savefig(file, metadata={"Date": None})
    plt.close()
