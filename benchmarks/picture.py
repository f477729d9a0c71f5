"""Draw the pictures that belong to the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from figures import middle, ratios
from peers import LIMIT
from served import CLIENTS, of
from sizing import SIZES

TITLES = {
    "served pymysql flask": "Flask, PyMySQL",
    "served pymysql wsgi": "plain WSGI, PyMySQL",
    "served mysqlclient flask": "Flask, mysqlclient",
    "served mysqlclient wsgi": "plain WSGI, mysqlclient",
}


def draw_rates(figures: dict[str, Any], file: Path) -> None:
    """Draw the requests per second of each row, as a ratio to the limit, by the number of clients."""
    _, rows = plt.subplots(2, 2, figsize=(12, 10), sharex=True, sharey=True)
    panels = [panel for row in rows for panel in row]
    names = list(figures[next(iter(TITLES))])
    for panel, (key, title) in zip(panels, TITLES.items(), strict=True):
        found = figures[key]
        for name in found:
            rates = [
                middle(ratios(of(found, name, clients, "rate"), of(found, LIMIT, clients, "rate")))
                for clients in CLIENTS
            ]
            ours = name.startswith("wsgidb")
            style = {"color": f"C{names.index(name) % 10}", "linewidth": 2 if ours else 1}
            panel.plot(range(len(CLIENTS)), rates, "o-" if ours else "s--", label=name, **style)
        panel.set_xticks(range(len(CLIENTS)), [str(clients) for clients in CLIENTS])
        panel.set_title(title)
        panel.grid(alpha=0.3)
    for panel in rows[1]:
        panel.set_xlabel("clients")
    for panel in rows[:, 0]:
        panel.set_ylabel("requests/s, × one unchecked connection per thread")
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    plt.gcf().legend(handles, labels, loc="lower center", ncol=4, fontsize="small", frameon=False)
    plt.tight_layout(rect=(0, 0.1, 1, 1))
    _save(file)


def draw_sizes(figures: dict[str, dict[str, tuple[float, float]]], file: Path) -> None:
    """Draw dead connection time against waiting, with a panel for each load."""
    _, panels = plt.subplots(1, len(figures), figsize=(13, 4.5))
    for panel, (load, found) in zip(panels, figures.items(), strict=True):
        pooled = [found[f"pooled {size}"] for size in SIZES]
        panel.plot([dead * 100 for dead, _ in pooled], [wait for _, wait in pooled], "o-", label="pooled, by size")
        for size, (dead, wait) in zip(SIZES, pooled, strict=True):
            panel.annotate(str(size), (dead * 100, wait), textcoords="offset points", xytext=(4, 5), fontsize="small")
        for name, mark in (("thread-local", "s"), ("per-request", "^")):
            panel.plot(found[name][0] * 100, found[name][1], mark, label=name)
        panel.set_title(load)
        panel.set_yscale("log")
        panel.set_xlim(0, 100)
        panel.set_xlabel("dead connection time, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("p99 of waiting for a connection, ms")
    panels[-1].legend(loc="upper left")
    plt.tight_layout()
    _save(file)


def _save(file: Path) -> None:
    with plt.rc_context({"svg.hashsalt": "wsgidb"}):  # so that the same figures give the same file
        plt.savefig(file, metadata={"Date": None})
    plt.close()
