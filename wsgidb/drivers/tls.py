"""The TLS context of one Database, built once: building one for every connection costs 22 ms each."""

from __future__ import annotations

import ssl

from ..config.settings import Settings
from ..errors import ConfigError


def context(settings: Settings) -> ssl.SSLContext:
    """A context for the settings' ssl_mode, which is not disabled. Raises ConfigError for unusable files."""
    mode = settings.ssl_mode
    for name in ("ssl_ca", "ssl_cert", "ssl_key"):
        _check_readable(name, getattr(settings, name))
    try:
        if mode.startswith("verify"):
            made = ssl.create_default_context(cafile=settings.ssl_ca)
            made.check_hostname = mode == "verify_identity"
            # The certificates that a MySQL server makes for itself do not pass the strict check of Python 3.13.
            made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        else:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if settings.ssl_cert is not None:
            # An encrypted key is an error: without a password, OpenSSL would ask for one on the terminal.
            made.load_cert_chain(settings.ssl_cert, settings.ssl_key, password="")
    except OSError as error:  # ssl.SSLError is one
        files = [name for name in ("ssl_ca", "ssl_cert", "ssl_key") if getattr(settings, name)]
        raise ConfigError(f"{', '.join(files) or 'ssl_mode'}: cannot be used: {error}", entry="config-tls") from None
    return made


def _check_readable(name: str, path: str | None) -> None:
    """Raise ConfigError for a file that cannot be read; the ssl module's error does not say which one it was."""
    if path is None:
        return
    try:
        open(path, "rb").close()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error}", entry="config-tls") from None
