"""What a comparison is shown and saved as: a small table, a file of all figures, a plot."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import io
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from sk_mixup._compare.errors import UserError
from sk_mixup._files import whole_files
from sk_mixup.inspection._alpha_differences import find_unit, format_difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_folder", "draw_png", "format_table", "list_rows", "write_csv", "write_file"]


def list_rows(found: Bunch) -> list[dict[str, object]]:
    """Return a row for each score and alpha, the chosen one last; all in the units of find_unit."""
    rows: list[dict[str, object]] = []
    for name, scores in found.scores.items():
        label, scale = find_unit(found, name)
        single, chosen = found.differences[name], found.chosen_differences[name]
        means = np.append(scores.mean(axis=0), found.chosen_scores[name].mean())
        ends = {key: scale * np.append(single[key], chosen[key]) for key in ("mean", "low", "high")}
        rows += [
            {
                "score": label,
                "alpha": alpha,
                "mean": scale * means[k],
                "difference": ends["mean"][k],
                "low": ends["low"][k],
                "high": ends["high"][k],
            }
            for k, alpha in enumerate([*(f"{alpha:g}" for alpha in found.alphas), "chosen"])
        ]
    return rows


def format_table(found: Bunch) -> str:
    """Return a line for each alpha: means, and differences from alpha = 0 with half their intervals."""
    rows = list_rows(found)
    labels = list(dict.fromkeys(str(row["score"]) for row in rows))
    lines = [["alpha", *labels]]
    for alpha in dict.fromkeys(str(row["alpha"]) for row in rows):
        lines.append([alpha, *(_format_cell(row) for row in rows if row["alpha"] == alpha)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _format_cell(row: dict[str, object]) -> str:
    mean, difference, low, high = (float(str(row[key])) for key in ("mean", "difference", "low", "high"))
    if row["alpha"] == "0":
        return f"{mean:.4g}"
    mark = " *" if low > 0 or high < 0 else ""
    return f"{mean:.4g} ({format_difference(difference)} ± {(high - low) / 2:.2g}){mark}"


def write_csv(rows: Sequence[dict[str, object]]) -> bytes:
    """Return rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def draw_png(figure: Figure) -> bytes:
    """Return a figure of matplotlib as a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def check_folder(folder: Path) -> None:
    """Make a folder, or raise if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"--out must be a folder that can be written to; got {str(folder)!r} ({reason}). Name another."
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that others see the old content or the new, never a part."""
    with whole_files({"file": path}) as paths:
        Path(str(paths["file"])).write_bytes(content)
