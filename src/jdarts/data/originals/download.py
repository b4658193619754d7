"""Downloads one file: fails fast without a network, checks what arrives."""

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

# Long enough for a name look-up and one repeated connection attempt.
REACH_SECONDS = 2.5
READ_SECONDS = 30.0
CHUNK_BYTES = 1 << 20

Progress = Callable[[str, int, int], None]


def download(url: str, target: Path, *, size: int, sha256: str, mend: str, progress: Progress) -> None:
    """Downloads a file and checks it.

    Args:
      url: Where it lies.
      target: The file to write.
      size: Expected number of bytes.
      sha256: Expected checksum.
      mend: What to do when it fails, for the error message.
      progress: Called with what is done, bytes so far and bytes in total.

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
                # One byte more than expected is enough to know another file.
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
        found = f"{received:,} bytes, expected {size:,}; sha256 {digest.hexdigest()}, expected {sha256}"
        raise _other_file(url, found, mend)


def _check_length(url: str, announced: str | None, size: int, mend: str) -> None:
    """Refuses a file that is too long before anything of it is read."""
    if announced and announced.strip().isdecimal() and len(announced) < 20 and int(announced) > size:
        raise _other_file(url, f"{int(announced):,} bytes, expected {size:,}", mend)


def _reach(url: str, mend: str) -> None:
    """Raises an `InputError` unless the server, or the proxy in front of it, takes a connection soon."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}", "http")
    address = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=REACH_SECONDS).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    # A name look-up knows no time limit, hence a thread that can be left behind.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    error = outcome[0] if outcome else TimeoutError(f"no answer within {REACH_SECONDS:g} seconds")
    if error:
        raise _failed(url, mend, error) from error


def _failed(url: str, mend: str, reason: object) -> InputError:
    return InputError(f"cannot download {url} ({reason}); {mend}")


def _other_file(url: str, found: str, mend: str) -> InputError:
    return InputError(f"what {url} sends is not the expected file: {found}; try again, or {mend}")
