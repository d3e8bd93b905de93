"""What must hold before a run may write into the results of the tree."""

from pathlib import Path

from benchmarks.harness.command import OUT, BaseConfig, UserError
from benchmarks.harness.results import describe_config, find_commit, run_git
from benchmarks.harness.rules import name_option

__all__ = ["check_recording"]

N_NAMED = 5
UNFINISHED = "benchmarks/results/unfinished/"


def check_recording(config: BaseConfig, preset: BaseConfig, root: Path) -> None:
    """Raise :class:`UserError` unless a run is that of its preset, by the committed code of a checkout."""
    if config.out != OUT:
        raise UserError(f"--record must be used without --out; got --out {config.out}. Remove one of them.")
    if config.preset == "smoke":
        raise UserError("--record must be used with a preset whose figures count; got smoke. Remove it.")
    _check_values(config, preset)
    _check_tree(root)
    find_commit()  # The checkout may move on before the run ends.


def _check_values(config: BaseConfig, preset: BaseConfig) -> None:
    own, expected = describe_config(config), describe_config(preset)
    others = [
        f"{name_option(name)} {own[name]!r} (preset: {expected[name]!r})"
        for name in own
        if own[name] != expected[name]
    ]
    if others:
        raise UserError(
            f"--record must be used with the values of the preset {config.preset}; got {', '.join(others)}. "
            "Remove these options, or --record."
        )


def _check_tree(root: Path) -> None:
    rule = "--record must be run from a git checkout without changes"
    top = run_git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top.strip()).resolve() != root.resolve():
        raise UserError(f"{rule}; got '{root}', which is not a checkout. Clone the repository.")
    lines = (run_git(root, "status", "--porcelain", "--untracked-files=all") or "").splitlines()
    # Records of runs that have not ended are what such a run leaves, and goes on from.
    changed = [line[3:] for line in lines if not line[3:].startswith(UNFINISHED)]
    if changed:
        more = f" and {len(changed) - N_NAMED} more" if len(changed) > N_NAMED else ""
        raise UserError(f"{rule}; got {', '.join(changed[:N_NAMED])}{more}. Commit or stash them.")
