"""Trains whatever epochs are at hand: those of a kind as one, the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import math
import time

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sk_mixup._training.epoch import Epoch

__all__ = ["Engine", "count_bytes"]

# What a step of a stack reads and writes should stay in the cache.
STACK_BYTES = 2**23
MOST = 32


class Engine:
    """Runs training epochs of many nets on a few threads.

    On the CPU the nets of a group are dealt out to the threads, in stacks small enough for the cache, with
    one thread for the operations of each. On a GPU a group is one stack.
    """

    def __init__(self, n_threads: int, *, verbose: bool = False) -> None:
        self.n_threads = n_threads
        self.bar = tqdm(disable=not verbose, desc="stacked", unit="epoch", total=0)
        self.pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sk_mixup")
        self.refused: dict[Hashable, str] = {}
        self.gains: dict[tuple[Hashable, int], bool] = {}

    def train(self, epochs: Sequence[Epoch], check: Callable[[], None]) -> None:
        """Run the epochs; what came of each is written there. `check` is called often and raises to stop."""
        left = [epoch for epoch in epochs if not epoch.done and epoch.error is None]
        stacks, single = self._form_stacks(left)
        futures = [self.pool.submit(self._run_stack, key, stack, check) for key, stack in stacks]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error
        single.extend(epoch for _, stack in stacks for epoch in stack if epoch.reason)
        for epoch in single:
            check()
            epoch.is_single = True
            with self._use_threads(epoch.most_threads), epoch.stream.as_global():
                epoch.run_single()
        if not self.bar.disable:
            self._show_progress(epochs)

    def close(self) -> None:
        """End the threads and the progress bar."""
        self.pool.shutdown()
        if not self.bar.disable:
            self.bar.total = self.bar.n  # nets that stopped early had fewer epochs than planned
        self.bar.close()

    def _show_progress(self, epochs: Sequence[Epoch]) -> None:
        losses = [epoch.losses.mean().cpu() for epoch in epochs if epoch.losses is not None]
        loss = float(torch.stack(losses).mean()) if losses else float("nan")
        self.bar.total += sum(epoch.n_epochs for epoch in epochs if epoch.number == 1)
        last = max((epoch.number for epoch in epochs), default=0)
        self.bar.set_postfix(nets=len(epochs), epoch=last, loss=f"{loss:.4g}", refresh=False)
        self.bar.update(len(epochs))

    def _form_stacks(self, epochs: Sequence[Epoch]) -> tuple[list[tuple[Hashable, list[Epoch]]], list[Epoch]]:
        """Return the stacks with their descriptions, and what must be run one by one."""
        groups: dict[Hashable, list[Epoch]] = {}
        single = []
        for epoch in epochs:
            try:
                key = epoch.trainer.describe(epoch.batches)
            except Exception as error:
                epoch.reason = _describe_error(error)
                single.append(epoch)
                continue
            epoch.reason = self.refused.get(key, "")
            if epoch.reason:
                single.append(epoch)
            else:
                groups.setdefault(key, []).append(epoch)
        stacks: list[tuple[Hashable, list[Epoch]]] = []
        for key, group in groups.items():
            if self._is_worth_it(key, group):
                stacks.extend((key, stack) for stack in self._deal(group))
            else:
                single.extend(group)
        return stacks, single

    def _is_worth_it(self, key: Hashable, group: list[Epoch]) -> bool:
        """Whether a stack is faster than one net after the other."""
        pair = key, len(group)
        if pair not in self.gains:
            self.gains[pair] = group[0].trainer.is_worth_stacking(group[0].batches, len(group))
        return self.gains[pair]

    def _deal(self, group: list[Epoch]) -> list[list[Epoch]]:
        """Deal a group out to the threads: equal work, no stack too large for the cache."""
        trainer = group[0].trainer
        if trainer.get_device().type != "cpu":
            return [group]
        in_cache = STACK_BYTES // trainer.count_step_bytes(group[0].batches)
        largest = min(max(in_cache, trainer.fewest_stacked), MOST)
        # Threads hold Python's lock between operations: small stacks in many threads wait for it.
        n_threads = min(self.n_threads, max(2, math.isqrt(len(group))))
        n_stacks = -(-len(group) // largest)
        n_stacks = -(-n_stacks // n_threads) * n_threads
        if trainer.draws:
            n_stacks = min(n_stacks, len(group) // trainer.fewest_stacked)
        ordered = sorted(group, key=lambda epoch: -epoch.n_batches)
        return [stack for k in range(n_stacks) if (stack := ordered[k::n_stacks])]

    def _run_stack(self, key: Hashable, stack: list[Epoch], check: Callable[[], None]) -> None:
        if len(stack) == 1 and not stack[0].trainer.draws:
            check()
            stack[0].run_single()
            return
        start = time.perf_counter()
        states = [epoch.stream.get_state() for epoch in stack]
        try:
            done = stack[0].trainer.stack(stack).run_epoch(check)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) and len(stack) > 1:
                _rewind(stack, states)
                for part in (stack[::2], stack[1::2]):
                    self._run_stack(key, part, check)
                return
            # The nets are as they were; alone each shows its own error, if it has one.
            _rewind(stack, states)
            self.refused[key] = _describe_error(error)
            for epoch in stack:
                epoch.reason = self.refused[key]
            return
        except BaseException:
            _rewind(stack, states)
            raise
        per_batch = (time.perf_counter() - start) / sum(epoch.n_batches for epoch in stack)
        for epoch in stack:
            epoch.done, epoch.seconds = done, per_batch * epoch.n_batches

    @contextmanager
    def _use_threads(self, most: float) -> Iterator[None]:
        n_threads = torch.get_num_threads()
        torch.set_num_threads(int(min(self.n_threads, most)))
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)


def count_bytes(epoch: Epoch) -> int:
    """Return about how much memory a net in training takes on its device: what a step uses, and its rows."""
    rows = epoch.batches.rows
    kept = [rows] if isinstance(rows, Tensor) else [rows.x, rows.targets]
    own = sum(part.nbytes for part in kept if isinstance(part, Tensor))
    return epoch.trainer.count_step_bytes(epoch.batches) + own


def _describe_error(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _rewind(stack: list[Epoch], states: list[dict[torch.device, Tensor]]) -> None:
    for epoch, state in zip(stack, states, strict=True):
        epoch.stream.set_state(state)
