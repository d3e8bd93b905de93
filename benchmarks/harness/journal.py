"""A journal of finished work, so that a run killed at any moment goes on where it was."""

from collections.abc import Mapping, Sequence
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.harness.results import write_bytes

__all__ = ["Journal", "hash_identity"]

DIGEST_LENGTH = 12

Record = dict[str, Any]


def hash_identity(identity: Mapping[str, Any]) -> str:
    """Return a short digest of what a run computes, whatever the order of the keys; equal runs share it."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


class Journal:
    """Records on disk, one JSON line each, safe against a kill in mid-line.

    When the run has ended the file becomes `kept`, which may be itself, or is deleted; `earlier` are such
    files of runs that this one goes on from, and replaces. `shared` is a file that can be taken to another
    machine, where the run goes on.
    """

    def __init__(
        self,
        path: Path,
        *,
        kept: Path | None = None,
        earlier: Sequence[Path] = (),
        shared: Path | None = None,
    ) -> None:
        self.path = path
        self.kept = kept
        self.earlier = earlier
        self.shared = shared

    def read(self) -> dict[str, Record]:
        """Return the records by key; a line cut short or damaged is left out."""
        taken = () if self.shared is None else (self.shared,)
        paths = (*taken, *self.earlier, self.path)
        return {key: record for path in paths for key, record in _read(path).items()}

    def share(self) -> Path | None:
        """Write all records to the file that another machine may go on from, and return it; None for none."""
        if self.shared is None or not self.read():
            return None
        write_bytes(self.shared, _dump_all(self.read()))
        return self.shared

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Add one record, anything JSON can hold, and wait until it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # The newline in front ends a line that a kill cut short, so that it costs one record
            # and not two; empty lines are skipped when read.
            file.write(f"\n{_dump(key, record)}\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Put the records away for a run with more seeds, and delete the file."""
        if self.kept is not None:
            # Another process of the same run may have put its own there.
            write_bytes(self.kept, _dump_all(_read(self.kept) | self.read()))
            for path in self.earlier:
                path.unlink(missing_ok=True)
        if self.kept != self.path:
            self.path.unlink(missing_ok=True)
        if self.shared is not None:
            self.shared.unlink(missing_ok=True)


def _dump_all(records: Mapping[str, Record]) -> bytes:
    return "".join(f"{_dump(*item)}\n" for item in records.items()).encode()


def _dump(key: str, record: Mapping[str, Any]) -> str:
    return json.dumps({"key": key, "record": record})


def _read(path: Path) -> dict[str, Record]:
    records: dict[str, Record] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            entry = json.loads(line)
            records[entry["key"]] = entry["record"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return records
