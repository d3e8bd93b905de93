"""Fetch the archive of Google's speech commands: resumed, checksummed, unpacked in one piece."""

from collections.abc import Iterator
import hashlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path
import shutil
import sys
import tarfile
import tempfile
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sklearn.datasets import get_data_home
from tqdm import tqdm

from benchmarks.data.speech_files import FOLDER, URL
from benchmarks.harness.command import UserError

__all__ = ["SHA256", "download", "fetch_speech", "unpack"]

# As torchaudio has it; the archive is 1.4 GB.
SHA256 = "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"
BLOCK = 1 << 20
TIMEOUT = 60


def fetch_speech() -> Path:
    """Return the folder with the whole archive, fetched unless it is there."""
    folder = Path(get_data_home()) / "sk_mixup" / FOLDER
    if folder.exists():
        return folder
    archive = folder.with_name(URL.rpartition("/")[2])
    if not archive.exists():
        print(f"Fetching {URL} …", file=sys.stderr)
        download(URL, archive, SHA256)
    unpack(archive, folder)
    archive.unlink()
    return folder


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file, from where an earlier attempt ended.

    Until it is whole it grows beside, as ``PATH.part``; one with another checksum is deleted.
    """
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part)
    except (OSError, HTTPException) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"--download must reach the network for {url}; got {reason}. Try again: it goes on where it was. "
            "Or unpack it in a folder and use --data-dir."
        ) from error
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise UserError(
            f"'{path}' must be the official file (SHA-256 {sha256[:12]}…); got {found[:12]}…, and deleted "
            "it. Try again."
        )
    part.replace(path)


def _receive(url: str, part: Path) -> None:
    """Add to a file what it lacks."""
    n_done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={n_done}-"} if n_done else {})
    try:
        response: HTTPResponse = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond what is there; the checksum will tell
                return
            raise
    with response:
        # A server that knows no ranges sends all of it again.
        is_rest = response.status == 206
        expected = (n_done if is_rest else 0) + (response.length or 0)
        with part.open("ab" if is_rest else "wb") as file:
            for block in _read_blocks(response, n_done if is_rest else 0):
                file.write(block)
    if part.stat().st_size < expected:
        raise OSError(f"the connection ended after {part.stat().st_size} of {expected} bytes")


def _read_blocks(response: HTTPResponse, n_done: int) -> Iterator[bytes]:
    total = n_done + response.length if response.length else None
    with tqdm(total=total, initial=n_done, unit="B", unit_scale=True, desc=FOLDER) as bar:
        while block := response.read(BLOCK):
            yield block
            bar.update(len(block))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive to a folder that is there only when it is whole.

    Python's filter for data refuses absolute paths, those that lead outside, devices and links to
    other places.
    """
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with tarfile.open(archive) as file:
            file.extractall(partial, filter="data")
        partial.chmod(0o755)  # mkdtemp makes it private
        partial.replace(folder)
    # A damaged archive raises errors of gzip, of zlib or of tarfile.
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"'{archive}' must be a whole archive of plain files; got {reason}. Delete it and run again with "
            "--download."
        ) from None
