"""Files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import os
from pathlib import Path
import secrets
import stat

__all__ = ["whole_files"]


@contextmanager
def whole_files(files: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Give temporary names for the paths among `files`; rename them if all went well.

    A file that is replaced hands on its permissions. Where a path is a link, what it leads to is written;
    what is no file, such as a pipe, is written in place.
    """
    paths = {key: Path(os.path.realpath(f)) for key, f in files.items() if isinstance(f, str | os.PathLike)}
    targets = {key: path for key, path in paths.items() if path.is_file() or not path.exists()}
    parts = dict[str, Path]()
    try:
        for key, path in targets.items():
            parts[key] = _make_part(path)
        yield {**files, **{key: str(part) for key, part in parts.items()}}
        for key, part in parts.items():
            _take_place(part, targets[key])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _make_part(path: Path) -> Path:
    """Return an empty file beside `path`; where that is there already, no other user may read the new one."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if path.exists() else 0o666))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return part


def _take_place(part: Path, path: Path) -> None:
    if path.exists():
        part.chmod(stat.S_IMODE(path.stat().st_mode))
    part.replace(path)
