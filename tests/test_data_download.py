import contextlib
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest
from made_up_images import pack_cifar, write_cifar

from jdarts.data import load, preparation, prepare
from jdarts.data.originals import download
from jdarts.data.originals import finding as originals
from jdarts.errors import InputError

URL = "http://nowhere.invalid/cifar-10-binary.tar.gz"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a folder on this machine; `promise` adds to the length that it announces, `more` megabytes follow without it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        promise = 0
        more = 0
        sent = 0

        def do_GET(self):
            file = folder / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            self.send_response(200)
            if not self.more:
                self.send_header("Content-Length", str(len(content) + self.promise))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)
                for _ in range(self.more):
                    self.wfile.write(bytes(1 << 20))
                    type(self).sent += 1

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}", Handler
        running.shutdown()
        thread.join()


def register(monkeypatch, url, content, file="cifar-10-binary.tar.gz"):
    known = originals.Registered(url, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(preparation, "registered_files", lambda _: {file: known})


def test_a_set_is_downloaded_checked_and_prepared(server, tmp_path, monkeypatch):
    folder, address, _ = server
    records = write_cifar("cifar10", folder)
    archive = pack_cifar("cifar10", folder)
    register(monkeypatch, f"{address}/{archive.name}", archive.read_bytes())
    calls = []
    prepare("cifar10", data_dir=tmp_path / "tfds", progress=lambda *call: calls.append(call))
    size = archive.stat().st_size
    assert (f"downloading {archive.name}", size, size) in calls
    np.testing.assert_array_equal(load("cifar10", tmp_path / "tfds").train.labels, records["train"][:, 0])
    assert [path.name for path in (tmp_path / "tfds").iterdir()] == ["cifar10"]


@pytest.mark.parametrize(
    ("served", "promise", "message"),
    [
        (b"other", 0, "another file than expected: 5 bytes, expected 7"),
        (b"whole", 2, "another file than expected: 5 bytes, expected 7"),
        (None, 0, "404"),
    ],
)
def test_a_bad_download_says_how_to_go_on_and_leaves_nothing(served, promise, message, server, tmp_path, monkeypatch):
    folder, address, handler = server
    handler.promise = promise
    if served:
        (folder / "cifar-10-binary.tar.gz").write_bytes(served)
    register(monkeypatch, f"{address}/cifar-10-binary.tar.gz", b"whole!!")
    with pytest.raises(InputError, match=message) as caught:
        prepare("cifar10", data_dir=tmp_path / "tfds")
    mend = f"python -m jdarts.data prepare cifar10 --from FOLDER --data-dir {tmp_path / 'tfds'}"
    assert str(caught.value).endswith(mend)
    assert not (tmp_path / "tfds").exists()


@pytest.mark.parametrize(
    ("promise", "more", "message"),
    [
        (627_000_000, 0, "another file than expected: 627,000,007 bytes, expected 7; try again"),
        (0, 627, "another file than expected: more than the expected 7 bytes; try again"),
    ],
)
def test_a_download_stops_at_the_expected_size(promise, more, message, server, tmp_path, monkeypatch):
    folder, address, handler = server
    handler.promise, handler.more = promise, more
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"whole!!")
    register(monkeypatch, f"{address}/cifar-10-binary.tar.gz", b"whole!!")
    calls = []
    with pytest.raises(InputError, match=message):
        prepare("cifar10", data_dir=tmp_path / "tfds", progress=lambda *call: calls.append(call))
    # What the sockets of both sides hold, and no more.
    assert handler.sent < 100
    assert all(done <= total for _, done, total in calls)
    assert not (tmp_path / "tfds").exists()


def no_name(*args, **kwargs):
    raise socket.gaierror(-2, "Name or service not known")


def no_answer(*args, **kwargs):
    time.sleep(0.2)
    raise TimeoutError("too late to be heard")


@pytest.mark.parametrize(
    ("connect", "reason"),
    [(no_name, "Name or service not known"), (no_answer, "no answer within 0.05 seconds")],
)
def test_without_a_network_it_fails_at_once(connect, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(download, "REACH_SECONDS", 0.05)
    with pytest.raises(InputError, match=reason) as caught:
        prepare("cifar10", data_dir=tmp_path / "tfds")
    assert "cifar-10-binary.tar.gz" in str(caught.value)
    assert "--from FOLDER" in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_it_gives_up_well_within_five_seconds():
    assert download.REACH_SECONDS <= 3


@pytest.mark.parametrize("proxy", ["http://proxy.invalid:3128", "proxy.invalid:3128"])
def test_a_proxy_is_what_must_be_reached(proxy, tmp_path, monkeypatch):
    reached = []

    def connect(address, timeout):
        reached.append(address)
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(InputError, match="refused"):
        download.download(URL, tmp_path / "file", size=1, sha256="", mend="wait", progress=lambda *call: None)
    assert reached == [("proxy.invalid", 3128)]
