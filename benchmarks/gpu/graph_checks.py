"""What must be right of recorded graphs, also in threads and on a second device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
import threading
from typing import Any

import numpy as np
from skorch.callbacks import LRScheduler
import torch

from benchmarks.gpu.cases import (
    CLOSE,
    EXACT,
    FITS,
    QUICK,
    Cases,
    Check,
    Conv,
    Reading,
    Tanh,
    compare_nets,
    find_data,
    is_cuda,
    make_net,
    make_rows,
    run_in_threads,
)
from sk_mixup import fit_stacked

__all__ = ["GRAPH_CHECKS"]

MIB = 2**20


def graph_equals_step(device: str) -> Cases:
    """Train by recorded steps as by steps; an optimizer that cannot be recorded may be refused."""
    torch.set_default_dtype(torch.float64)
    optimizers = ("Adagrad", "Adadelta", "RMSprop", "NAdam", "RAdam", "Adamax", "ASGD")
    decay = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    cases = FITS | {name: {"optimizer": getattr(torch.optim, name)} for name in optimizers}
    cases |= {"foreach": {"optimizer__foreach": True}, "scheduler": {"callbacks": [decay]}}
    cases |= {"groups": {"optimizer__param_groups": [("*bias", {"weight_decay": 0.1})]}}

    def compare(options: dict[str, Any]) -> float:
        X, y = find_data(options, 200)
        try:
            graphed = make_net(options, device, cuda_graph=True).fit(X, y)
        except ValueError as error:
            if "cuda_graph must" in str(error):
                return 0.0
            raise
        return compare_nets([graphed], [make_net(options, device).fit(X, y)])

    return {name: (partial(compare, o), EXACT) for name, o in cases.items()}


def graph_memory_is_flat(device: str) -> Cases:
    """200 epochs of graphs hold no more memory, in MiB, than 20."""

    def measure() -> float:
        X, y = make_rows(256, (3, 8, 8))
        net = make_net({"module": Conv, "module__width": 64, "max_epochs": 1, "cuda_graph": True}, device)
        used = {}
        for epoch in range(1, 201 if is_cuda(device) else 3):
            net.partial_fit(X, y)
            if is_cuda(device) and epoch in (20, 200):
                free, total = torch.cuda.mem_get_info(device)
                used[epoch] = np.array([torch.cuda.memory_reserved(device), total - free]) / MIB
        return float((used[200] - used[20]).max()) if used else 0.0

    return {"conv": (measure, 16.0)}  # another process may take some


def failed_graph_harms_nothing(device: str) -> Cases:
    """End in an error where a module cannot be recorded, and let the process go on."""
    X, y = make_rows(200)

    def fail() -> float:
        if not is_cuda(device):
            return 0.0
        try:
            make_net({"module": Reading, "cuda_graph": True}, device).fit(X, y)
        except (RuntimeError, ValueError):
            return 0.0
        return 1.0

    def go_on(options: dict[str, Any]) -> float:
        fail()
        if is_cuda(device):
            torch.cuda.empty_cache()
        return float(make_net(options, device).fit(X, y).n_iter_ != QUICK["max_epochs"])

    after: dict[str, dict[str, Any]] = {
        "step": {},
        "dropout": {"module": Tanh, "module__dropout": 0.5},
        "graph": {"cuda_graph": True},
    }
    cases: Cases = {"error": (fail, 0.0)}
    return cases | {f"{name} afterwards": (partial(go_on, o), 0.0) for name, o in after.items()}


@contextmanager
def _disturb(device: str) -> Iterator[None]:
    """Pin, send and free memory in another thread."""
    stop, errors = threading.Event(), list[Exception]()

    def work() -> None:
        while not stop.is_set():
            try:
                if not is_cuda(device):
                    stop.wait()
                torch.randn(40_000, pin_memory=is_cuda(device)).to(device, non_blocking=True)
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def graphs_in_threads(device: str) -> Cases:
    """Several fits at once, and one beside a thread that allocates, train as they do alone."""
    X, y = make_rows(200)
    shapes: list[dict[str, Any]] = [{"module__hidden_layer_sizes": (size,)} for size in (8, 16, 32, 64)]

    def fit_all(run: Callable[[list[Callable[[], Any]]], list[Any]], **more: Any) -> list[Any]:
        nets = [make_net(options, device, max_epochs=8, **more) for options in shapes]
        return run([partial(net.fit, X, y) for net in nets])

    def compare() -> float:
        return compare_nets(
            fit_all(run_in_threads, cuda_graph=True), fit_all(lambda fits: [f() for f in fits])
        )

    def compare_disturbed() -> float:
        with _disturb(device):
            graphed = fit_all(lambda fits: [f() for f in fits], cuda_graph=True)
        return compare_nets(graphed, fit_all(lambda fits: [f() for f in fits]))

    def compare_stacked() -> float:
        nets = [make_net(options, device, max_epochs=8, cuda_graph=True) for options in shapes * 2]
        return compare_nets(
            fit_stacked((net, X, y) for net in nets), fit_all(lambda fits: [f() for f in fits]) * 2
        )

    cases = {"at once": compare, "disturbed": compare_disturbed, "stacks": compare_stacked}
    return {name: (function, CLOSE) for name, function in cases.items()}


def second_device(device: str) -> Cases:
    """Another device than the first trains as the first does."""
    if not is_cuda(device) or torch.cuda.device_count() < 2:
        return {}
    X, y = make_rows(200)

    def compare(options: dict[str, Any]) -> float:
        return compare_nets(*([make_net(options, place).fit(X, y)] for place in ("cuda:1", "cuda:0")))

    cases: dict[str, dict[str, Any]] = {"step": {}, "graph": {"cuda_graph": True}, "tanh": {"module": Tanh}}
    return {name: (partial(compare, o), CLOSE) for name, o in cases.items()}


GRAPH_CHECKS: tuple[Check, ...] = (
    graph_equals_step,
    graph_memory_is_flat,
    failed_graph_harms_nothing,
    graphs_in_threads,
    second_device,
)
