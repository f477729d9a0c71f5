"""The character sets that a client of MySQL or MariaDB can use:
https://dev.mysql.com/doc/refman/8.4/en/charset-connection.html

Left out are those of 16 and 32 bits, which are for columns only, and those that Python cannot encode.
"""

from __future__ import annotations

from ...config.values import nearest
from ...errors import ConfigError

NAMES = frozenset(
    (
        *("ascii", "big5", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "cp932"),
        *("euckr", "gb18030", "gb2312", "gbk", "greek", "hebrew", "koi8r", "koi8u", "latin1", "latin2", "latin5"),
        *("latin7", "macroman", "sjis", "tis620", "ujis", "utf8", "utf8mb3", "utf8mb4"),
    )
)
PYTHON = {"utf-8": "utf8mb4", "utf_8": "utf8mb4", "iso-8859-1": "latin1", "cp1252": "latin1", "koi8-r": "koi8r"}
"""What Python calls some of them."""


def character_set(text: str) -> str:
    """Parse the driver's option charset. An empty one is the driver's default. Raises ConfigError."""
    if text and text.lower() not in NAMES:
        hint = nearest(text, NAMES, PYTHON)
        raise ConfigError(
            f"charset: takes a character set of MySQL, such as utf8mb4, got {text!r}{hint}",
            entry="config-driver-options",
        )
    return text.lower()
