"""Downloads one file: fails fast without a network, and checks the content."""

import hashlib
import http.client
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from jdarts.data.originals.images import os_errors_as_input
from jdarts.errors import InputError

# Long enough for a name look-up and a second connection attempt.
REACH_SECONDS = 2.5
READ_SECONDS = 30.0
CHUNK_BYTES = 1 << 20

Progress = Callable[[str, int, int], None]


def download(url: str, target: Path, *, size: int, sha256: str, mend: str, progress: Progress) -> None:
    """Downloads a file and checks it.

    Args:
      url: Its address.
      target: The file to write.
      size: Expected number of bytes.
      sha256: Expected checksum.
      mend: What to do after a failure, for the error message.
      progress: Called with the name of the present work, the bytes so far and the total bytes.

    Raises:
      InputError: The network cannot be reached, the connection breaks, or the content is wrong.
    """
    _reach(url, mend)
    digest, received = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=READ_SECONDS) as response:
            _check_length(url, response.headers.get("Content-Length"), size, mend)
            with os_errors_as_input(target):
                file = target.open("wb")
            with file:
                # One byte more than expected shows that it is another file.
                while chunk := response.read(min(CHUNK_BYTES, size + 1 - received)):
                    with os_errors_as_input(target):
                        file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    if received > size:
                        raise _other_file(url, f"more than the expected {size:,} bytes", mend)
                    progress(f"downloading {target.name}", received, size)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(url, mend, error) from error
    except urllib.error.URLError as error:
        raise _failed(url, mend, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _failed(url, mend, error) from error
    if digest.hexdigest() != sha256:
        difference = f"{received:,} bytes, expected {size:,}; sha256 {digest.hexdigest()}, expected {sha256}"
        raise _other_file(url, difference, mend)


def _check_length(url: str, announced: str | None, size: int, mend: str) -> None:
    """Refuses a file that is too long, before reading it."""
    if announced and announced.strip().isdecimal() and len(announced) < 20 and int(announced) > size:
        raise _other_file(url, f"{int(announced):,} bytes, expected {size:,}", mend)


def _reach(url: str, mend: str) -> None:
    """Raises an `InputError` unless the server, or the proxy before it, soon accepts a connection."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}", "http")
    address = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
    outcomes: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=REACH_SECONDS).close()
            outcomes.append(None)
        except OSError as error:
            outcomes.append(error)

    # A name look-up has no time limit, hence a thread that can be abandoned.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    error = outcomes[0] if outcomes else TimeoutError(f"no answer within {REACH_SECONDS:g} seconds")
    if error:
        raise _failed(url, mend, error) from error


def _failed(url: str, mend: str, reason: object) -> InputError:
    return InputError(f"cannot download {url} ({reason}); {mend}")


def _other_file(url: str, difference: str, mend: str) -> InputError:
    return InputError(f"{url} sends another file than expected: {difference}; try again, or {mend}")
