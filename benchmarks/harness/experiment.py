"""The steps that every benchmark on tables takes, from data to result files."""

from collections.abc import Callable, Sequence
from pathlib import Path
import textwrap
from typing import Any, Protocol, TypeVar

from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.journal import Journal, hash_identity
from benchmarks.harness.results import (
    describe_config,
    find_device_kind,
    find_versions,
    format_tables,
    make_document,
    pack_records,
    write_results,
)
from benchmarks.harness.runner import Tasks, Worker, run_tasks

__all__ = ["conclude", "make_stem", "name_run", "open_journal", "print_outcome", "run_experiment"]


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


def run_experiment(
    command: Command,
    config: BaseConfig,
    *,
    names: Sequence[str],
    worker: Worker,
    make_tasks: Callable[[list[T]], Tasks],
    summarise: Callable[[Records], Rows],
    describe_finding: Callable[[Rows], str],
    draw: Callable[[Rows], bytes],
    protocol: str,
    load: Callable[..., list[T]],
) -> int:
    """Load the tables, measure what is missing, write the results and print them.

    Parameters
    ----------
    command : Command
        Gives the name and the table's form.
    config : BaseConfig
        What to run.
    names : sequence of str
        The tables; empty for all at hand.
    worker : callable
        Makes a record, or a dict whose ``records`` holds several, from the arguments of a task.
    make_tasks : callable
        Gives the tasks for the tables.
    summarise : callable
        Turns records into flat rows.
    describe_finding : callable
        Turns those rows into one sentence.
    draw : callable
        Turns those rows into a PNG.
    protocol : str
        What was done, in words.
    load : callable
        Gives the tables: ``load(names, data_dir=..., download=...)``.

    Returns
    -------
    status : int
        0.
    """
    config.check_device()
    tables = load(names, data_dir=config.data_dir, download=config.download)
    data = [table.describe() for table in tables]
    embedded = config.data_dir is None and not config.download
    stem = make_stem(command.name, config, embedded=embedded)
    digests = {entry["dataset"]: entry["sha256"] for entry in data}
    journal = open_journal(stem, config, data=digests)
    # The largest first, so that no core is left alone with a long task at the end.
    tasks = make_tasks(sorted(tables, key=lambda table: -table.size))
    done = run_tasks(worker, tasks, journal, n_jobs=config.n_jobs, label=command.name)
    records = [record for group in done for record in group.get("records", [group])]
    records = sorted(records, key=lambda record: _find_place(record, data))
    summary = summarise(records)
    return conclude(
        command,
        config,
        stem=stem,
        journal=journal,
        data=data,
        protocol=protocol,
        finding=describe_finding(summary),
        summary=summary,
        records=records,
        picture=draw(summary),
    )


def conclude(
    command: Command,
    config: BaseConfig,
    *,
    stem: str,
    journal: Journal,
    protocol: str,
    finding: str,
    summary: Rows,
    records: Records,
    picture: bytes,
    data: list[dict[str, Any]] | None = None,
) -> int:
    """Write the results, forget the journal, and print protocol, tables, files and finding.

    Parameters
    ----------
    command : Command
        Gives the name and the table's form.
    config : BaseConfig
        What was run.
    stem : str
        From :func:`make_stem`.
    journal : Journal
        Of the run; deleted once the results are on the disk.
    protocol, finding : str
        What was done and what came of it, in words.
    summary : list of dict
        Flat rows.
    records : sequence of dict
        What they come from.
    picture : bytes
        A PNG.
    data : list of dict, default=None
        Descriptions of the data; None where there are none.

    Returns
    -------
    status : int
        0.
    """
    facts = {} if data is None else {"data": data}
    document = make_document(
        command.name,
        config,
        **facts,
        protocol=protocol,
        finding=finding,
        summary=summary,
        records=pack_records(records),
    )
    paths = write_results(stem, config.out, document, picture)
    journal.remove()
    print_outcome(command, document, paths)
    return 0


def make_stem(name: str, config: BaseConfig, *, embedded: bool) -> str:
    """Return NAME-<preset>-<device>; NAME gets "-embedded" without the paper's own data."""
    suffix = "-embedded" if embedded else ""
    return f"{name}{suffix}-{config.preset}-{find_device_kind(config.device)}"


def name_run(stem: str, config: BaseConfig, **facts: Any) -> Path:
    """Return the path of what a run keeps until it ends, to which a suffix is added.

    Parameters
    ----------
    stem : str
        From :func:`make_stem`.
    config : BaseConfig
        What is run.
    **facts : Any
        What the records depend on beside configuration and versions; anything JSON can hold.
    """
    identity = {"config": describe_config(config), "versions": find_versions(), **facts}
    return Path(config.out) / f"{stem}.{hash_identity(identity)}"


def open_journal(stem: str, config: BaseConfig, **facts: Any) -> Journal:
    """Return the journal of a run; see :func:`name_run`."""
    path = name_run(stem, config, **facts)
    return Journal(path.with_name(f"{path.name}.partial.jsonl"))


def _find_place(record: dict[str, Any], data: list[dict[str, Any]]) -> int:
    return [entry["dataset"] for entry in data].index(record["dataset"])


def print_outcome(command: Command, document: dict[str, Any], paths: dict[str, Path]) -> None:
    """Print protocol, tables, files and finding.

    Parameters
    ----------
    command : Command
        Gives the form of the tables.
    document : dict
        The result.
    paths : dict of str to Path
        The files written, by suffix.
    """
    assert command.tabulate is not None, "every benchmark has one"
    protocol = textwrap.fill(document["protocol"], LINE_WIDTH)
    print(f"\n{protocol}\n\n{format_tables(command.tabulate(document))}\n")
    print(f"Plot: {paths['png']}\nResults: {paths['json']}, {paths['csv'].name}\n")
    print(textwrap.fill(document["finding"], LINE_WIDTH))
