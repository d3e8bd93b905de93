"""The steps that every benchmark takes, from data to result files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
import textwrap
from typing import Any, Protocol, TypeVar

from benchmarks.harness.claims import format_claim
from benchmarks.harness.command import BaseConfig, Command, UserError, is_seeds
from benchmarks.harness.figures import render
from benchmarks.harness.journal import Journal, hash_identity
from benchmarks.harness.paired_differences import fill_columns
from benchmarks.harness.results import (
    NUMERICS,
    describe_config,
    find_device_kind,
    find_versions,
    format_table,
    format_tables,
    make_document,
    pack_records,
    read_result,
    unpack_records,
    write_results,
)
from benchmarks.harness.runner import Join, Tasks, Worker, run_tasks

__all__ = [
    "KEPT",
    "conclude",
    "find_paths",
    "find_shared",
    "list_records",
    "make_stem",
    "name_run",
    "open_journal",
    "refuse_less",
    "run_experiment",
]


class Table(Protocol):
    """What tasks are made from: a table or a set of images."""

    @property
    def size(self) -> int:
        """Numbers in the inputs; the largest table is begun first."""

    def describe(self) -> dict[str, Any]:
        """Return at least ``dataset`` and ``sha256``, ready for JSON."""


T = TypeVar("T", bound=Table)
Records = Sequence[dict[str, Any]]
Rows = list[dict[str, Any]]
LINE_WIDTH = 100
# A folder in that of the results: the journals of runs that have ended.
KEPT = "finished"
# The same, for the journals of recorded runs that have not.
UNFINISHED = "unfinished"


def run_experiment(
    command: Command,
    config: BaseConfig,
    *,
    names: Sequence[str],
    worker: Worker,
    make_tasks: Callable[[list[T]], Tasks],
    summarise: Callable[[Records], Rows],
    protocol: str,
    load: Callable[..., list[T]],
    join: Join | None = None,
    draw_from: Callable[[], Any] = lambda: None,
    libraries: Sequence[str] = (),
) -> int:
    """Load the tables, measure what is missing, write the results and print them; return 0.

    ``load(names, data_dir=..., download=...)`` gives the tables, `names` empty for all at hand. `make_tasks`
    gives their tasks: each key names its repeat, on whose number alone, with the options but those of seeds,
    its record depends. `worker` makes a record, or a dict whose ``records`` holds several, from the arguments
    of a task; for `join` see :func:`benchmarks.harness.runner.run_tasks`. `summarise` turns records into flat
    rows; ``draw_from()`` is called after the last task, see :func:`conclude`. `libraries` names those, with
    versions, that records depend on beside those of every benchmark.
    """
    tables = load(names, data_dir=config.data_dir, download=config.download)
    data = [table.describe() for table in tables]
    places = {entry["dataset"]: place for place, entry in enumerate(data)}
    stem = make_stem(command.name, config, embedded=config.data_dir is None and not config.download)
    refuse_less(stem, config, dataset=places)
    facts: dict[str, Any] = {"data": {entry["dataset"]: entry["sha256"] for entry in data}}
    facts |= {"libraries": [*libraries]} if libraries else {}
    journal = open_journal(stem, config, **facts)
    # The largest first, so that no core is left alone with a long task at the end.
    tasks = make_tasks(sorted(tables, key=lambda table: -table.size))
    groups = run_tasks(
        worker, tasks, journal, n_jobs=config.n_jobs, label=command.name, join=join, until=config.end
    )
    records = sorted(list_records(groups), key=lambda record: places[record["dataset"]])
    return conclude(
        command,
        config,
        stem,
        journal,
        records,
        data=data,
        protocol=protocol,
        summarise=summarise,
        draw_from=draw_from(),
    )


def list_records(groups: Iterable[Mapping[str, Any]]) -> Rows:
    """Return all records, those in ``records`` of what a worker gave; a column that one lacks is None."""
    return fill_columns([record for group in groups for record in group.get("records", [group])])


def conclude(
    command: Command,
    config: BaseConfig,
    stem: str,
    journal: Journal,
    records: Records,
    *,
    summarise: Callable[[Records], Rows],
    protocol: str,
    data: list[dict[str, Any]] | None = None,
    draw_from: Any = None,
    is_complete: bool = True,
) -> int:
    """Write the results, put the journal away, print protocol, tables and files; return 0.

    `draw_from` is what the command's figure needs beside the summary, ready for JSON; None for nothing.
    Where the records are not complete, the journal stays for a run that goes on from it.
    """
    assert command.draw is not None, "every benchmark has one"
    document = make_document(
        command.name,
        config,
        **({} if data is None else {"data": data}),
        protocol=protocol,
        **({} if draw_from is None else {"draw_from": draw_from}),
        summary=summarise(records),
        records=pack_records(records),
    )
    paths = write_results(stem, config.out, document, render(command.draw, document))
    if is_complete:
        journal.finish()
    else:
        journal.share()
    print_outcome(command, document, paths)
    return 0


def make_stem(name: str, config: BaseConfig, *, embedded: bool) -> str:
    """Return NAME-<preset>-<device>; NAME gets "-embedded" without the paper's own data."""
    suffix = "-embedded" if embedded else ""
    return f"{name}{suffix}-{config.preset}-{find_device_kind(config.device)}"


def name_run(stem: str, config: BaseConfig, *, seeds: Sequence[int] = (), **facts: Any) -> Path:
    """Return the path of what a run keeps until it ends, to which a suffix is added.

    `facts` are what the records depend on beside options, repeat and versions; anything JSON can hold.
    What a run with ``--record`` keeps is its own: others may be of code that nobody has committed. `seeds`
    are the numbers of seeds, if not those of the configuration.
    """
    options = {name: value for name, value in describe_config(config).items() if not is_seeds(name)}
    facts |= {"recorded": True} if config.record else {}
    identity = {"config": options, "versions": find_versions(), "numerics": NUMERICS, **facts}
    digest = hash_identity(identity)
    numbers = "-".join(map(str, seeds or config.list_seeds()))
    return (config.work or config.out) / f"{stem}.{digest}.{numbers}"


def open_journal(stem: str, config: BaseConfig, *, by_repeat: bool = True, **facts: Any) -> Journal:
    """Return the journal of a run; see :func:`name_run`.

    `by_repeat` is whether each key names a repeat, on whose number a record depends, and not on how many
    there are: then a run with more seeds goes on from it.
    """
    if by_repeat:
        run = name_run(stem, config, **facts)
        return Journal(**find_paths(run), shared=find_shared(run, config))
    run = name_run(stem, config, **facts, n_seeds=config.n_seeds)
    return Journal(find_paths(run)["path"])


def refuse_less(stem: str, config: BaseConfig, **names: Iterable[str]) -> None:
    """Raise :class:`UserError` where a recorded run lacks what the result that it would replace has.

    `names` are those that the run will have, by column of its records.
    """
    path = config.out / f"{stem}.json"
    if not config.record or not path.exists():
        return
    records = unpack_records(read_result(path)["records"])
    for column, own in names.items():
        lacking = sorted({record[column] for record in records} - set(own))
        if lacking:
            raise UserError(
                f"--record must keep each {column} of the result that it replaces; got none for "
                f"{', '.join(map(str, lacking))}. Supply what they need, or remove '{path}' first."
            )


def find_shared(run: Path, config: BaseConfig) -> Path | None:
    """Return the file from which a recorded run goes on in another clone; other runs have none."""
    return config.out / UNFINISHED / f"{run.name}.jsonl" if config.record else None


def find_paths(run: Path) -> dict[str, Any]:
    """Return the arguments of a run's journal, the same as another's but for the seeds if that had fewer."""
    kept, (name, _, own) = run.parent / KEPT, run.name.rpartition(".")
    earlier = [
        path for path in sorted(kept.glob(f"{name}.*.jsonl")) if _has_more(own, path.stem.rpartition(".")[2])
    ]
    return {
        "path": run.with_name(f"{run.name}.partial.jsonl"),
        "kept": kept / f"{run.name}.jsonl",
        "earlier": earlier,
    }


def _has_more(own: str, other: str) -> bool:
    """Return whether no number of seeds, as in "20-10", is smaller than the other's, and one is larger."""
    pairs = list(zip(*(map(int, text.split("-")) for text in (own, other)), strict=True))
    return own != other and all(mine >= theirs for mine, theirs in pairs)


def print_outcome(command: Command, document: dict[str, Any], paths: dict[str, Path]) -> None:
    """Print protocol, tables, what becomes of the paper's claims, and files."""
    assert command.tabulate is not None, "every benchmark has one"
    protocol = textwrap.fill(document["protocol"], LINE_WIDTH)
    print(f"\n{protocol}\n\n{format_tables(command.tabulate(document))}\n")
    verdicts = [format_claim(claim, claim.compare(document)) for claim in command.claims]
    if verdicts:
        print(f"{format_table(verdicts)}\n")
    print(f"Figure: {paths['png']}, {paths['svg'].name}\nResults: {paths['json']}, {paths['csv'].name}")
