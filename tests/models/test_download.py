"""Downloads from a server on the loopback interface: valid files and all kinds of failure."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kerastl.errors import RequestError
from kerastl.models import PublishedWeights, fetch_weights, verify_weights, weight_files, weights

CONTENT = b"weights" * 1000
FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.server.kind
        self.server.requested.append(self.path)
        if kind == "absent":
            self.send_error(404)
        elif kind == "silent":
            self.server.release.wait(30)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            end = len(self.server.content) // 2 if kind in ("truncated", "stalled") else None
            self.wfile.write(self.server.content[:end])
            if kind == "stalled":
                self.wfile.flush()
                self.server.release.wait(30)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.kind, running.content, running.requested = "good", CONTENT, []
    running.release = threading.Event()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("KERASTL_WEIGHTS_URL", f"http://127.0.0.1:{running.server_port}/mirror/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield running
    running.release.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def published(monkeypatch):
    """Make the hash of the content the published hash of VGG16."""
    row = PublishedWeights(FILE, "https://example.invalid/x", hashlib.md5(CONTENT).hexdigest(), "t", "t", "")
    monkeypatch.setattr(weights, "published_weights", lambda *_, **__: [row])
    monkeypatch.setattr(weights, "cached_files", lambda _: [(folder_of() / FILE, row, False)])


def folder_of():
    return weights.models_folder()


def nothing_left():
    return not list(folder_of().iterdir())


def test_a_file_is_downloaded_once_and_verified(server, published):
    path = fetch_weights("vgg16")
    assert path == folder_of() / FILE
    assert path.read_bytes() == CONTENT
    assert fetch_weights("vgg16") == path
    assert server.requested == [f"/mirror/{FILE}"]
    assert verify_weights("vgg16") == [(path, None)]
    path.write_bytes(CONTENT + b"x")
    assert "md5" in verify_weights("vgg16")[0][1]


def test_a_damaged_file_is_downloaded_again_and_replaced(server, published, capsys):
    path = fetch_weights("vgg16")
    path.write_bytes(CONTENT[:-1])
    assert fetch_weights("vgg16") == path
    assert path.read_bytes() == CONTENT
    assert f"{path} is damaged" in capsys.readouterr().err
    assert len(server.requested) == 2


def test_a_damaged_file_without_a_published_hash_is_replaced_too(server, assets):
    server.content = (assets / "keras" / "models" / "mobilenet_2_5_128_tf_no_top.h5").read_bytes()
    path = fetch_weights("mobilenet", image_size_px=128, alpha=0.25)
    path.write_bytes(server.content[:1000])
    assert fetch_weights("mobilenet", image_size_px=128, alpha=0.25).read_bytes() == server.content


@pytest.mark.parametrize(
    ("kind", "message"), [("truncated", "IncompleteRead"), ("absent", "404"), ("wrong", "md5")]
)
def test_a_failed_download_leaves_no_file(server, published, kind, message):
    server.kind = kind
    if kind == "wrong":
        server.content = b"other bytes"
    with pytest.raises(RequestError, match=message):
        fetch_weights("vgg16")
    assert nothing_left()


@pytest.mark.parametrize("kind", ["silent", "stalled"])
def test_a_server_that_does_not_respond_is_an_error(server, published, kind, monkeypatch):
    monkeypatch.setattr(weight_files, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(weight_files, "READ_TIMEOUT_S", 0.5)
    server.kind = kind
    with pytest.raises(RequestError, match="could not be downloaded"):
        fetch_weights("vgg16")
    assert not server.release.is_set()
    assert nothing_left()


def test_without_a_connection_the_error_names_the_file_and_the_url(server, published, monkeypatch):
    monkeypatch.setenv("KERASTL_WEIGHTS_URL", "http://127.0.0.1:9/")
    with pytest.raises(RequestError) as error:
        fetch_weights("vgg16")
    assert str(folder_of() / FILE) in str(error.value)
    assert f"http://127.0.0.1:9/{FILE} could not be downloaded: the connection failed" in str(error.value)
    assert "weights=None" in str(error.value)


def test_a_folder_that_cannot_be_created_is_reported(server, published, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(RequestError, match="cannot be written"):
        fetch_weights("vgg16")


def test_a_mirror_that_is_not_an_http_url_is_refused(server, published, monkeypatch):
    monkeypatch.setenv("KERASTL_WEIGHTS_URL", "file:///etc")
    with pytest.raises(RequestError, match="https://"):
        fetch_weights("vgg16")


@pytest.mark.slow
def test_a_file_without_a_published_hash_must_fit_the_network(server, assets):
    files = assets / "keras" / "models"
    server.content = (files / "mobilenet_2_5_128_tf_no_top.h5").read_bytes()
    path = fetch_weights("mobilenet", image_size_px=128, alpha=0.25)
    assert path.read_bytes() == server.content
    assert verify_weights("mobilenet") == [(path, None)]
    with pytest.raises(RequestError, match="layer conv1: expected shape"):
        fetch_weights("mobilenet", image_size_px=128, alpha=0.5)
    server.content = b"<html>Log in to the network</html>"
    with pytest.raises(RequestError, match="cannot be read"):
        fetch_weights("mobilenet", image_size_px=128, alpha=1.0)
    assert list(folder_of().iterdir()) == [path]
