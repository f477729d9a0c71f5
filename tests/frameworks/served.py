"""What a server serves in these tests: one framework's example, and beside it what tests ask of the process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from frameworks.kit import FRAMEWORKS

framework = FRAMEWORKS[os.environ["FRAMEWORK"]]
example = framework.load()
database = framework.middleware(example).database

sendfile, sent = os.sendfile, 0


def counting_sendfile(*args: Any, **kwargs: Any) -> int:
    """The system call, and how many bytes it has sent."""
    global sent
    count = sendfile(*args, **kwargs)
    sent += count
    return count


os.sendfile = counting_sendfile


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/stats":
        body: Iterable[bytes] = example(environ, start_response)
        return body
    text = json.dumps({**asdict(database.stats()), "sent": sent}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
