"""What each step of the campaign does, in a process of its own.

python -m benchmarks.gpu.steps NAME SETTING

SETTING is a :class:`Setting` in JSON. What came of it is in NAME.json of its folder. What a step needs is
imported by that step alone: a package that is missing skips no other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
import json
from pathlib import Path
import sys
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.campaign import DONE, SKIPPED
from benchmarks.harness.command import ROOT
from benchmarks.harness.journal import Journal
from benchmarks.harness.results import unpack_records, write_bytes

__all__ = ["FULL_PRESETS", "Setting", "read_partial", "run_step"]

Records = Iterable[dict[str, Any]]
ABALONE, WIDE = (8, 28), (54, 7)


@dataclass(frozen=True)
class Setting:
    """What a step must know."""

    device: str
    n_rounds: int  # Rounds of each comparison of times
    folder: str  # Where everything goes
    data_dir: str | None  # Where CIFAR-10 and Speech Commands are
    download: bool  # Whether to fetch them

    @property
    def is_full(self) -> bool:
        """Whether sizes are those of a GPU; if not, it is a rehearsal."""
        return self.device.startswith("cuda")


class SkipError(Exception):
    """Why a step cannot be run here."""


def _list_times(
    times: Mapping[str, list[float]], part: str, case: str, unit: str, scale: float = 1.0
) -> Records:
    from benchmarks.harness.interleaved_timing import list_times

    return list_times(times, scale=scale, part=part, case=case, unit=unit)


def _count(part: str, case: str, unit: str, **values: float) -> Records:
    return _list_times({name: [value] for name, value in values.items()}, part, case, unit)


# -- what is right ------------------------------------------------------------------------------


def find_facts(setting: Setting) -> Records:
    """Print what is installed, and return what the device is and can do at most."""
    from importlib.metadata import distributions

    import torch

    from benchmarks.harness.fitting import measure_time

    found = {item.metadata["Name"]: item.version for item in distributions()}
    print(json.dumps({"python": sys.version, **found}, indent=1, sort_keys=True))
    if setting.is_full:
        device = torch.cuda.get_device_properties(setting.device)
        print(device, torch.version.cuda)
        yield from _count("facts", "memory", "GiB", device=device.total_memory / 2**30)
        yield from _count("facts", "devices", "", host=torch.cuda.device_count())
    side = 8192 if setting.is_full else 64
    a = torch.randn(side, side, device=setting.device, dtype=torch.bfloat16)
    row = torch.zeros(128, device=setting.device)
    calls: dict[str, tuple[int, Callable[[], Any]]] = {
        "matmul bfloat16": (10, lambda: a @ a),
        "add_": (2000, lambda: row.add_(1)),
    }
    for case, (repeats, call) in calls.items():
        for _ in range(2):  # the first is the warm-up
            _wait(setting)
            with measure_time() as watch:
                for _ in range(repeats):
                    call()
                _wait(setting)
        yield from _count("facts", case, "µs", device=1e6 * watch.seconds / repeats)


def _wait(setting: Setting) -> None:
    import torch

    if setting.is_full:
        torch.cuda.synchronize(setting.device)


def run_tests(setting: Setting) -> Records:
    """Run the tests marked gpu, without this project's strictness: another torch may warn of other things."""
    pytest: Any = import_module("pytest")
    import_module("hypothesis")  # of tests/conftest.py
    files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
    if not files:
        raise SkipError("needs the folder tests of a checkout")
    report = Path(setting.folder, "tests.xml")
    options = [
        "-o",
        "addopts=",
        "-o",
        "filterwarnings=default",
        "--import-mode=importlib",
        "--tb=short",
        "-q",
    ]
    options += ["-m", "gpu", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--junitxml={report}"]
    code = pytest.main([*options, *files])
    if code not in (0, 1):
        raise RuntimeError(f"pytest ended with {code!r}")
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    count = {
        name: sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    }
    failed = count["failures"] + count["errors"]
    if count["tests"] > count["skipped"]:
        yield from _count("tests", "gpu", "tests", failed=failed, run=count["tests"] - count["skipped"])


def run_checks(setting: Setting) -> Records:
    """Run all checks and return how many cases there are, and how many of them fail."""
    from benchmarks.gpu.checks import check_all

    cases = check_all(setting.device, n_jobs=4 if setting.is_full else 1)
    write_bytes(Path(setting.folder, "cases.json"), json.dumps(cases, indent=1).encode())
    failed = sum(not case["ok"] for case in cases)
    return _count("checks", "all", "cases", failed=failed, run=len(cases))


# -- how fast -----------------------------------------------------------------------------------


def time_steps(setting: Setting) -> Records:
    """Time a step of the default net beside skorch's and a loop's: the longer fit less the shorter one."""
    from benchmarks.harness.fitting import count_batches
    from benchmarks.harness.interleaved_timing import interleave
    from benchmarks.peers.contenders import make_fits, make_table

    size, short, long = 32, 1, 4 if setting.is_full else 2
    X, y = make_table(25_600 if setting.is_full else 640, *WIDE)

    def make_all(epochs: int) -> dict[str, Callable[[], Any]]:
        shared: dict[str, Any] = {"batch_size": size, "epochs": epochs, "device": setting.device}
        fits = make_fits(X, y, **shared)
        if setting.is_full:
            fits["mixup-graph"] = make_fits(X, y, **shared, cuda_graph=True)["mixup"]
        return {name: fit for name, fit in fits.items() if name not in ("sklearn", "skorch")}

    fits = {epochs: make_all(epochs) for epochs in (short, long)}
    contenders = {f"{name}/{epochs}": fit for epochs in fits for name, fit in fits[epochs].items()}
    seconds = interleave(contenders, setting.n_rounds, device=setting.device)
    times = {
        name: [b - a for a, b in zip(seconds[f"{name}/{short}"], seconds[f"{name}/{long}"], strict=True)]
        for name in fits[short]
    }
    n_steps = (long - short) * count_batches(len(X), size)
    return _list_times(times, "step", f"wide/{size}", "µs a step", 1e6 / n_steps)


def time_mixing(setting: Setting) -> Records:
    """Measure the kernel's bandwidth beside that of a copy, and of the formula compiled."""
    import torch

    from benchmarks.speed.gpu import MIX_SHAPE, time_mixing_kernel

    for name in ("float32", "bfloat16"):
        speeds = time_mixing_kernel(
            setting.n_rounds,
            setting.device,
            shape=MIX_SHAPE if setting.is_full else (256, 54),
            dtype=getattr(torch, name),
            compiled=setting.is_full,
        )
        yield from _list_times(speeds, "mixing", name, "GB/s", 1e-9)


def time_stacks(setting: Setting) -> Records:
    """Time many nets as one beside single fits, on Abalone's shape and on a wide table."""
    from benchmarks.peers.contenders import make_table
    from benchmarks.search.growth import time_gpu

    cases = {"abalone": (3341, ABALONE, 16, 10), "wide": (50_000, WIDE, 32, 2)}
    for case, (n_rows, shape, size, epochs) in cases.items():
        X, y = make_table(n_rows if setting.is_full else 60, *shape)
        options: dict[str, Any] = {"batch_size": size, "device": setting.device}
        options |= {"n_nets": 200 if setting.is_full else 3, "max_epochs": epochs if setting.is_full else 1}
        yield from _list_times(
            time_gpu(setting.n_rounds, X, y, **options), "stack", case, "µs a net and step"
        )


def time_prediction(setting: Setting) -> Records:
    """Time the probabilities of a table on the host, beside the bare network."""
    import torch

    from benchmarks.harness.interleaved_timing import interleave
    from benchmarks.peers.contenders import make_net, make_table

    X, y = make_table(1_000_000 if setting.is_full else 3000, *WIDE)
    net = make_net(None, 0.2, max_epochs=1, device=setting.device).fit(X[:2000], y[:2000])

    def predict_by_hand() -> Any:
        with torch.inference_mode():
            return net.module_(torch.as_tensor(X, device=setting.device)).softmax(1).numpy(force=True)

    contenders = {"mixup": lambda: net.predict_proba(X), "module": predict_by_hand}
    seconds = interleave(contenders, setting.n_rounds, device=setting.device)
    return _list_times(seconds, "predict", "wide", "ms", 1e3)


def time_gans(setting: Setting) -> Records:
    """Time seeds of a GAN as one beside seeds in turn, as the command gan does."""
    from benchmarks.gan.run import PRESETS, time_width

    config = replace(PRESETS["gpu" if setting.is_full else "smoke"], device=setting.device)
    widths = sorted(config.speed_widths) if setting.is_full else [4, 8]
    for case, width in zip(("narrow", "wide"), widths, strict=True):
        for record in time_width(config, width)["records"]:
            names = ("contender", "round", "value")
            yield {"part": "gan", "case": case, **{name: record[name] for name in names}, "unit": "µs"}


def time_images(setting: Setting) -> Records:
    """Time PreAct ResNet-18 beside a loop by hand with the same options, as the command cifar does."""
    import numpy as np

    from benchmarks.cifar.config import PRESETS
    from benchmarks.cifar.run import time_network
    from benchmarks.data.cifar_images import ImageSet
    from benchmarks.data.tables import Table

    table = Table("cifar10", np.zeros((20, 3, 32, 32), dtype=np.uint8), np.arange(20) % 10, "made up")
    config = replace(PRESETS["gpu" if setting.is_full else "smoke"], device=setting.device)
    for record in time_network(config, ImageSet(table, 20, 10), "preact_resnet18")["records"]:
        names = ("contender", "round", "value")
        yield {
            "part": "images",
            "case": "mixup",
            **{name: record[name] for name in names},
            "unit": "µs an image",
        }


# -- the project's own benchmarks ---------------------------------------------------------------


def _list_options(setting: Setting, name: str, *options: str, reads_files: bool) -> list[str]:
    """Return what is typed to run a benchmark on a GPU."""
    files = ["--download"] if setting.download else []
    files += [] if setting.data_dir is None else ["--data-dir", setting.data_dir]
    if reads_files and setting.is_full and not files:
        raise SkipError("needs --data-dir or --download")
    typed = [name, "--preset", "gpu", "--device", setting.device, "--out", setting.folder, *options]
    return [*typed, *files] if reads_files else typed


def _run_benchmark(setting: Setting, typed: list[str]) -> Records:
    """Run a benchmark's command and return its records."""
    from benchmarks.cli import main

    if status := main(typed):
        raise RuntimeError(f"the command {typed[0]} ended with {status}")
    (path,) = Path(setting.folder).glob(f"{typed[0]}*-{typed[2]}-*.json")
    return unpack_records(json.loads(path.read_text(encoding="utf-8"))["records"])


def run_cifar(setting: Setting) -> Records:
    """Train on CIFAR-10 at full size and return errors and minutes of each run."""
    typed = _list_options(setting, "cifar", reads_files=True)
    if not setting.is_full:
        typed = ["cifar", "--preset", "smoke", "--out", setting.folder]
        typed += ["--epochs", "2", "--last-epochs", "1", "--train-rows", "128", "--test-rows", "64"]
    return _adapt_cifar(_run_benchmark(setting, typed))


def _adapt_cifar(records: Records) -> Records:
    for record in records:
        if record["part"] == "run":
            case = f"{record['method']}, {record['weight_decay']:g}"
            shared = {"part": "cifar", "case": case, "round": record["repeat"]}
            yield {**shared, "contender": "error", "value": record["error"], "unit": "%"}
            yield {**shared, "contender": "minutes", "value": record["seconds"] / 60, "unit": "min"}


def read_partial(setting: Setting, name: str) -> list[dict[str, Any]]:
    """Return what a run that was cut off has measured so far."""
    paths = Path(setting.folder).glob(f"{name}-*.partial.jsonl")
    groups = [group for path in paths for group in Journal(path).read().values()]
    return list(_adapt_cifar(record for group in groups for record in group.get("records", [group])))


def _make_runner(name: str, *options: str, reads_files: bool = False) -> Callable[[Setting], Records]:
    """Return a step whose figures stand in the benchmark's own result; a rehearsal reads its options only."""

    def run(setting: Setting) -> Records:
        typed = _list_options(setting, name, *options, reads_files=reads_files)
        if setting.is_full:
            _run_benchmark(setting, typed)
        else:
            from benchmarks.cli import parse_config
            from benchmarks.registry import find_benchmarks

            (command,) = find_benchmarks(name)
            print(parse_config(command, typed[1:], ROOT))
        return []

    return run


FULL_PRESETS = ("speed", "search", "cifar", "speech")
RUNNERS: Mapping[str, Callable[[Setting], Records]] = {
    "facts": find_facts,
    "tests": run_tests,
    "checks": run_checks,
    "step": time_steps,
    "speed": _make_runner("speed"),
    "mixing": time_mixing,
    "search": _make_runner("search"),
    "stack": time_stacks,
    "predict": time_prediction,
    "gan": time_gans,
    "images": time_images,
    "cifar": run_cifar,
    "corrupted": _make_runner("corrupted", "--noise", "0.5", reads_files=True),
    "speech": _make_runner("speech", reads_files=True),
}


def run_step(name: str, setting: Setting) -> None:
    """Run a step and leave what came of it; one that fails leaves nothing."""
    try:
        outcome: dict[str, Any] = {"status": DONE, "records": list(RUNNERS[name](setting))}
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "sk_mixup"):
            raise
        outcome = {"status": SKIPPED, "reason": f"needs the package {error.name}"}
    except SkipError as error:
        outcome = {"status": SKIPPED, "reason": str(error)}
    write_bytes(Path(setting.folder, f"{name}.json"), json.dumps(outcome).encode())


if __name__ == "__main__":
    run_step(sys.argv[1], Setting(**json.loads(sys.argv[2])))
