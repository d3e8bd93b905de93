"""What must be right on a device: cases with a bound each, by check; each check in a process of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import copy
from functools import partial
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import pickle
import tempfile
from typing import Any
import warnings

import numpy as np
from scipy import sparse
import torch

from benchmarks.gpu.cases import (
    EXACT,
    FITS,
    QUICK,
    Cases,
    Check,
    Conv,
    Tanh,
    compare_nets,
    find_data,
    is_cuda,
    make_net,
    make_rows,
    run_in_threads,
)
from benchmarks.gpu.graph_checks import GRAPH_CHECKS
from sk_mixup import (
    MixupClassifier,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
    fit_stacked,
    stacked,
)
from sk_mixup.mixing import ManifoldMixup

__all__ = ["CHECKS", "check_all", "run_check"]

SECONDS = 150  # of a check
SAMPLED = 3  # A rehearsal runs every third case.


def equals_cpu(device: str) -> Cases:
    """In float64 a device trains to the CPU's weights."""
    torch.set_default_dtype(torch.float64)

    def compare(options: dict[str, Any], X: Any, y: Any) -> float:
        return compare_nets(*([make_net(options, place).fit(X, y)] for place in (device, "cpu")))

    X, y = make_rows()
    tables: dict[str, tuple[dict[str, Any], Any, Any]] = {
        **{name: (options, *find_data(options)) for name, options in FITS.items()},
        "sparse": ({}, sparse.csr_matrix(np.maximum(X, 0)), y),
        "labels": ({}, X, (X[:, :3] > 0).astype(int)),
        "target": ({"owner": MixupRegressor}, X, X[:, 0]),
    }
    return {name: (partial(compare, *table), EXACT) for name, table in tables.items()}


def repeats_itself(device: str) -> Cases:
    """Two fits of one seed are one, dropout too."""
    drop = {"module": Tanh, "module__dropout": 0.5}
    cases: dict[str, dict[str, Any]] = {"mlp": {}, "tanh": {"module": Tanh}, "dropout": drop}
    X, y = make_rows(400)

    def compare(options: dict[str, Any]) -> float:
        return compare_nets(*([make_net(options, device).fit(X, y)] for _ in range(2)))

    return {name: (partial(compare, o), 0.0) for name, o in cases.items()}


def _count_waits(device: str, fit: Callable[[], Any]) -> int:
    """Return how often the host waits for the device while something runs."""
    if not is_cuda(device):
        fit()
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            fit()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def never_waits(device: str) -> Cases:
    """Wait as often in a fit of thrice the steps: nothing within an epoch waits."""
    float16 = {"module": Conv, "autocast": "float16"}
    # Its scaler waits at each step, by PyTorch's own design.
    cases: dict[str, dict[str, Any]] = {name: options for name, options in FITS.items() if name != "stopping"}
    cases |= {f"{name}, graph": cases[name] | {"cuda_graph": True} for name in ("mlp", "tanh", "conv")}
    cases |= {
        "bfloat16": float16 | {"autocast": "bfloat16"},
        "augment": {"module": Conv, "augment": torch.neg},
    }

    def compare(options: dict[str, Any], n_nets: int) -> float:
        counts = []
        for n in (96, 96, 288) if is_cuda(device) else (96,):  # the first warms up
            X, y = find_data(options, n)
            nets = [make_net(options, device, random_state=seed) for seed in range(n_nets)]
            jobs = [(net, X, y) for net in nets]
            fit = partial(fit_stacked, jobs) if n_nets > 1 else partial(nets[0].fit, X, y)
            counts.append(_count_waits(device, fit))
        return counts[-1] - counts[1 % len(counts)]

    single: Cases = {name: (partial(compare, o, 1), 0.0) for name, o in cases.items()}
    stacks: Cases = {
        f"stack, {name}": (partial(compare, cases[name], 3), 0.0) for name in ("mlp", "tanh", "conv")
    }
    return single | stacks


# -- stacks, precision, memory ------------------------------------------------------------------


def stack_equals_single(device: str) -> Cases:
    """In float64 a stack trains each net to the weights that it has alone; with dropout it trains."""
    torch.set_default_dtype(torch.float64)

    def compare(options: dict[str, Any], graphed: bool) -> float:
        X, y = find_data(options)
        nets, others = ([make_net(options, device, random_state=seed) for seed in range(4)] for _ in range(2))
        for net in nets:
            net.set_params(cuda_graph=graphed and is_cuda(device))
        found = fit_stacked((net, X, y) for net in nets)
        if options.get("module__dropout"):
            return float(not all(np.isfinite(net.predict_proba(X)).all() for net in found))
        return compare_nets(found, [net.fit(X, y) for net in others])

    cases = {name: options for name, options in FITS.items() if name != "stopping"}
    cases |= {
        "rmsprop": {"optimizer": torch.optim.RMSprop},
        "dropout": {"module": Tanh, "module__dropout": 0.5},
    }
    graphed: Cases = {
        f"{name}, graph": (partial(compare, cases[name], True), EXACT) for name in ("mlp", "tanh")
    }
    return graphed | {name: (partial(compare, o, False), EXACT) for name, o in cases.items()}


def search_equals_cpu(device: str) -> Cases:
    """Score in a stacked search as in one on the CPU, where its best net goes on."""
    from sklearn.model_selection import GridSearchCV

    X, y = make_rows(120)
    grid = {"alpha": [0, 0.2, 1.0], "module__hidden_layer_sizes": [(8,), (16,)]}

    def compare() -> float:
        search = GridSearchCV(make_net({}, "cpu"), grid, cv=3)
        with stacked(device=device):
            ours = copy.deepcopy(search).fit(X, y)
        ours.best_estimator_.partial_fit(X, y)
        theirs = search.fit(X, y)
        return float(
            np.abs(ours.cv_results_["mean_test_score"] - theirs.cv_results_["mean_test_score"]).max()
        )

    return {"scores": (compare, 0.05)}


def half_precision_learns(device: str) -> Cases:
    """In half precision a net learns what one pixel tells: the share of training rows it gets wrong."""
    X, y = make_rows(300, (3, 8, 8))
    X[np.arange(300), y, 0, 0] += 6

    def measure(options: dict[str, Any]) -> float:
        net = make_net({"module": Conv, "alpha": 0.2, "max_epochs": 12} | options, device)
        return 1 - float(net.fit(X, y).score(X, y))

    halves: dict[str, dict[str, Any]] = {"float32": {}, "bfloat16": {"autocast": "bfloat16"}}
    halves["bfloat16, last"] = {"autocast": "bfloat16", "channels_last": True}
    if is_cuda(device):
        halves |= {f"{name}, graph": options | {"cuda_graph": True} for name, options in halves.items()}
        halves["float16"] = {"autocast": "float16"}
    return {name: (partial(measure, o), 0.2) for name, o in halves.items()}


def data_fit_once(device: str) -> Cases:
    """Take little more room than the data have, of any layout: the peak over the data."""
    n = 100_000 if is_cuda(device) else 100
    X, y = np.zeros((n, 3, 8, 8), dtype=np.float32), np.arange(n) % 3

    def measure(rows: Any, options: dict[str, Any]) -> float:
        net = make_net(
            {"module": Conv, "batch_size": 512, "max_epochs": 1, "storage": "device"} | options, device
        )
        if not is_cuda(device):
            net.fit(rows, y)
            return 1.0
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        net.fit(rows, y)
        return (torch.cuda.max_memory_allocated(device) - before) / X.nbytes

    def measure_float64() -> float:
        return measure(X.astype(np.float64), {})

    return {
        "float32": (lambda: measure(X, {}), 1.7),
        "float64": (measure_float64, 1.7),
        "channels_last": (lambda: measure(X, {"channels_last": True}), 1.7),
    }


# -- other estimators, files --------------------------------------------------------------------


def other_estimators(device: str) -> Cases:
    """Train GANs and semi-supervised classifiers as on the CPU, in float64, and a stack as single nets."""
    torch.set_default_dtype(torch.float64)
    X, y = make_rows(120)
    some = np.where(np.arange(120) < 40, y, -1)
    sizes: dict[str, Any] = {f"{part}__hidden_layer_sizes": (16,) for part in ("generator", "discriminator")}

    def make_gan(place: str, seed: int) -> MixupGAN:
        short: dict[str, Any] = {"max_epochs": 2, "steps_per_epoch": 5, "batch_size": 32}
        return MixupGAN(**short, device=place, random_state=seed, **sizes)

    def compare_gans(ours: Any, theirs: Any) -> float:
        pairs = zip(ours.generator_.parameters(), theirs.generator_.parameters(), strict=True)
        return max(float((a.cpu() - b.cpu()).abs().max()) for a, b in pairs)

    def compare_stack() -> float:
        found = fit_stacked((make_gan(device, seed), X) for seed in range(3))
        return max(compare_gans(net, make_gan(device, seed).fit(X)) for seed, net in enumerate(found))

    def compare_semi(method: str) -> float:
        own: dict[str, Any] = {"method": method, "max_epochs": 3, "batch_size": 8, "random_state": 0}
        nets = [SemiSupervisedMixupClassifier(**own, device=place).fit(X, some) for place in (device, "cpu")]
        return compare_nets(nets[:1], nets[1:])

    return {
        "gan": (lambda: compare_gans(make_gan(device, 0).fit(X), make_gan("cpu", 0).fit(X)), EXACT),
        "stack of gans": (compare_stack, EXACT),
        **{name: (partial(compare_semi, name), EXACT) for name in ("mixmatch", "ict")},
    }


def files_and_copies(device: str) -> Cases:
    """Predict from copies, files and other threads as the net does, and go on with it."""
    X, y = make_rows(100)
    net = make_net({"cuda_graph": True}, device).fit(X, y)
    expected = net.predict_proba(X)

    def compare(other: Any) -> float:
        return float(np.abs(other.predict_proba(X) - expected).max())

    def reload(name: str, **options: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            net.save_params(Path(folder, name), **options)
            sizes: dict[str, Any] = {"module__in_features": 6, "module__out_features": 3}
            other = MixupClassifier(device="cpu", classes=[0, 1, 2], **sizes).initialize()
            other.load_params(Path(folder, name), **options)
            return compare(other)

    return {
        "pickle": (lambda: compare(pickle.loads(pickle.dumps(net))), 0.0),
        "deepcopy": (lambda: compare(copy.deepcopy(net)), 0.0),
        "parameters": (lambda: reload("a.pt"), 1e-5),
        "safetensors": (lambda: reload("a.safetensors", use_safetensors=True), 1e-5),
        "thread": (lambda: float(run_in_threads([lambda: compare(net)])[0]), 0.0),
        "goes on": (lambda: float(copy.deepcopy(net).partial_fit(X, y).n_iter_ < 2), 0.0),
    }


def compiled_and_deterministic(device: str) -> Cases:
    """Compiled networks train, and so do all under torch's deterministic algorithms."""
    torch.use_deterministic_algorithms(True)
    X, y = make_rows(100)

    def fit(options: dict[str, Any], X: Any = X) -> float:
        return float(make_net(options, device).fit(X, y).n_iter_ != QUICK["max_epochs"])

    tables: dict[str, dict[str, Any]] = {"mlp": {}, "manifold": {"vicinity": ManifoldMixup(1.0)}}
    cases: Cases = {name: (partial(fit, o), 0.0) for name, o in tables.items()}
    cases["sparse"] = (lambda: fit({}, sparse.csr_matrix(X)), 0.0)
    if is_cuda(device):  # the compiler of a CPU takes minutes
        compiled = {"module": Tanh, "compile": True}
        cases["compiled"] = (lambda: fit(compiled), 0.0)
        cases["compiled, graph"] = (lambda: fit(compiled | {"cuda_graph": True}), 0.0)
    return cases


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(equals_cpu, repeats_itself, never_waits, *GRAPH_CHECKS, stack_equals_single, search_equals_cpu),
        *(half_precision_learns, data_fit_once, other_estimators, files_and_copies),
        compiled_and_deterministic,
    )
}


# -- all of them --------------------------------------------------------------------------------


def run_check(name: str, device: str, *, every: int = 1) -> list[dict[str, Any]]:
    """Return what came of each case of a check, or of some: its value, its bound, or the error."""
    try:
        cases = CHECKS[name](device)
    except Exception as error:
        return [_describe_error(name, "", error)]
    return [_run_case(name, case, *cases[case]) for case in list(cases)[::every]]


def _run_case(name: str, case: str, measure: Callable[[], float], bound: float) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(measure())
    except Exception as error:
        return _describe_error(name, case, error)
    return {"check": name, "case": case, "ok": value <= bound, "value": value, "bound": bound}


def _describe_error(name: str, case: str, error: Exception) -> dict[str, Any]:
    first = (str(error).splitlines() or [""])[0]
    return {"check": name, "case": case, "ok": False, "error": f"{type(error).__name__}: {first}"}


def check_all(device: str, *, n_jobs: int = 1, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Run every check in a process of its own, some at once, and print and return all cases."""
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    if "forkserver" in known:
        context.set_forkserver_preload([__name__])

    def run_apart(name: str) -> list[dict[str, Any]]:
        receiver, sender = context.Pipe(duplex=False)
        process: Any = context.Process(target=_send_check, args=(name, device, sender))  # type: ignore[attr-defined]
        process.start()
        sender.close()
        try:
            if not receiver.poll(seconds):
                raise TimeoutError(f"not ended after {seconds:g} s")
            found: list[dict[str, Any]] = receiver.recv()
        except (TimeoutError, EOFError) as error:
            found = [_describe_error(name, "", error)]
            process.kill()
        process.join()
        for case in found:
            print(case, flush=True)
        return found

    with ThreadPoolExecutor(n_jobs) as pool:
        return [case for found in pool.map(run_apart, CHECKS) for case in found]


def _send_check(name: str, device: str, sender: Connection) -> None:
    torch.set_num_threads(1)
    sender.send(run_check(name, device, every=1 if is_cuda(device) else SAMPLED))
