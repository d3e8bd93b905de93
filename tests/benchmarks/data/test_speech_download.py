from collections.abc import Iterator
import hashlib
from http.server import BaseHTTPRequestHandler, HTTPServer
import io
from pathlib import Path
import socket
import tarfile
import threading
from typing import Any

import pytest

from benchmarks.data import speech_download
from benchmarks.data.speech_download import download, fetch_speech, unpack
from benchmarks.harness.command import UserError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(HTTPServer):
    """Serves one file on this machine, and notes what is asked of it."""

    content = CONTENT
    knows_ranges = True
    status: int | None = None
    n_sent = 10**9  # bytes after which the connection ends

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/speech.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        given = self.headers["Range"]
        self.server.ranges.append(given)
        start = int(given[6:-1]) if given and self.server.knows_ranges else 0
        status = 416 if start >= len(self.server.content) else 206 if start else 200
        body = b"" if status == 416 else self.server.content[start:]
        self.send_response(self.server.status or status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.n_sent])

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "speech.tar.gz"


def test_download_brings_the_file_and_leaves_nothing_else(server: Server, path: Path) -> None:
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_download_goes_on_where_it_was(server: Server, path: Path, knows_ranges: bool) -> None:
    server.n_sent = 1000
    with pytest.raises(UserError, match=r"the connection ended after 1000 of 10240 bytes\. .*goes on where"):
        download(server.url, path, SHA256)
    assert not path.exists()
    server.n_sent, server.knows_ranges = len(CONTENT), knows_ranges
    download(server.url, path, SHA256)
    assert server.ranges == [None, "bytes=1000-"]
    assert path.read_bytes() == CONTENT


def test_download_takes_what_was_whole_already(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("speech.tar.gz.part").write_bytes(CONTENT)
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


def test_download_deletes_another_file(server: Server, path: Path) -> None:
    with pytest.raises(UserError, match=r"must be the official file \(SHA-256 000000000000…\); got"):
        download(server.url, path, "0" * 64)
    assert not list(path.parent.iterdir())


def test_download_names_the_reason_of_a_failure(server: Server, path: Path) -> None:
    server.status = 503
    with pytest.raises(
        UserError, match=r"must reach the network .*got HTTPError: HTTP Error 503.*--data-dir"
    ):
        download(server.url, path, SHA256)


def test_download_explains_a_server_that_is_not_there(path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # a port of ours that nobody listens on
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/speech.tar.gz"
        with pytest.raises(UserError, match=r"must reach the network .*got URLError"):
            download(url, path, SHA256)


def write_archive(path: Path, names: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def test_unpack_makes_the_folder_in_one_piece(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar.gz", {"./cat/1.wav": b"meow", "./testing_list.txt": b""})
    unpack(tmp_path / "a.tar.gz", tmp_path / "clips")
    assert (tmp_path / "clips" / "cat" / "1.wav").read_bytes() == b"meow"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "clips"]


def test_unpack_lets_nothing_lie_outside(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    write_archive(folder / "a.tar.gz", {"ok.txt": b"", "../../evil.txt": b"x"})
    with pytest.raises(
        UserError, match=r"must be a whole archive of plain files; got OutsideDestinationError"
    ):
        unpack(folder / "a.tar.gz", folder / "clips")
    assert [path.name for path in folder.iterdir()] == ["a.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_unpack_names_an_archive_that_is_cut_short(tmp_path: Path) -> None:
    content = write_archive(tmp_path / "a.tar.gz", {"cat.wav": bytes(range(256)) * 99})
    (tmp_path / "a.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a.tar.gz' must be a whole archive .* Delete it"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "clips")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_fetch_speech_asks_the_network_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = write_archive(tmp_path / "a.tar.gz", {"./cat/1.wav": b"meow"})
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(speech_download, "URL", server.url)
    monkeypatch.setattr(speech_download, "SHA256", hashlib.sha256(server.content).hexdigest())
    first, second = fetch_speech(), fetch_speech()
    assert first == second == tmp_path / "home" / "sk_mixup" / "speech_commands_v0.01"
    assert (first / "cat" / "1.wav").read_bytes() == b"meow"
    assert server.ranges == [None]
    assert list(first.parent.iterdir()) == [first]  # the archive is not kept
