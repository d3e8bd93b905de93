"""A journal of finished work, so that a run killed at any moment goes on where it was."""

from collections.abc import Mapping
import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Journal", "hash_identity"]

DIGEST_LENGTH = 12


def hash_identity(identity: Mapping[str, Any]) -> str:
    """Return a short digest of what a run computes; equal runs share it.

    Parameters
    ----------
    identity : mapping
        Anything JSON can hold; the order of the keys does not matter.

    Returns
    -------
    digest : str
        Twelve hexadecimal digits of SHA-256.
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


class Journal:
    """Records on disk, one JSON line each, safe against a kill in mid-line.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the records by key; a line cut short or damaged is left out."""
        if not self.path.exists():
            return {}
        records = {}
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                records[entry["key"]] = entry["record"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
        return records

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Add one record and wait until it is on the disk.

        Parameters
        ----------
        key : str
            Names the piece of work.
        record : mapping
            Its result; anything JSON can hold.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "record": record})
        with self.path.open("a", encoding="utf-8") as file:
            # The newline in front ends a line that a kill cut short, so that it costs one record
            # and not two; empty lines are skipped by read.
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file; a run that ended needs none."""
        self.path.unlink(missing_ok=True)
