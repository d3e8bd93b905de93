"""Distributed training of one net, through Hugging Face Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

import numpy as np
from skorch.dataset import get_len
from skorch.hf import AccelerateMixin as SkorchAccelerateMixin
from skorch.utils import to_device
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from sk_mixup._data.batches import RowSlices
from sk_mixup._skorch.net import MixupNetMixin
from sk_mixup._skorch.processes import AcceleratedProcesses, Processes
from sk_mixup._skorch.sharding import AnnouncedBatches, check_alike
from sk_mixup.stacking._scheduler import find_task

__all__ = ["AccelerateMixin"]

# What all processes must have alike.
ALIKE = ("random_state", "max_epochs", "batch_size")


class AccelerateMixin(SkorchAccelerateMixin):
    """Give a net of :class:`sk_mixup.MixupNetMixin` to an ``accelerate.Accelerator``, as skorch's mixin does.

    Put it first among the bases, in the place of ``skorch.hf.AccelerateMixin``, whose options it
    has: ``class Net(AccelerateMixin, MixupClassifier)``. ``module_`` stays the module as it was
    built: what the accelerator makes of it takes its place in a training step only, so that
    predictions, callbacks and files know nothing of it.

    Parameters
    ----------
    *args
        Positional arguments of the net.

    accelerator : accelerate.Accelerator
        Prepares modules and optimizers, and knows the other processes.

    device : str, torch.device or None, default=None
        None leaves the choice to the accelerator.

    unwrap_after_train : bool, default=True
        Whether the components are taken back from the accelerator after training.

    callbacks__print_log__sink : 'auto' or callable, default='auto'
        'auto' prints in the main process only.

    **kwargs : dict
        Options of the net.

    Notes
    -----
    With ``accelerate launch`` several processes train one net. `random_state` must then be an
    int, and each process is given all rows. The order of an epoch is the same in all of them and
    sharded row by row, as by torch's ``DistributedSampler``: shards are of one size, padded with
    the first rows of the order, or cut to one size with ``iterator_train__drop_last=True``.
    ``batch_size`` is that of one process. Each draws the partners and weights of its own
    mini-batches, its dropout and its augmentation from its own stream of the seed; partners
    from elsewhere than the mini-batch come from all rows. A batch normalisation sees the rows
    of its own process; after each epoch all have the statistics of the first. Losses in the
    history are averages over the processes, held-out rows are scored whole in each of them,
    and a training that a callback stops in one is stopped in all. Methods that predict return
    in each process what it asked for; ``save_params`` writes in the main process only. The
    learning rate is not scaled. Gradients are averaged, so with weights of rows each process
    divides by its own rows' weights. In one process the result is what it is without
    ``AccelerateMixin``, bit for bit.

    Examples
    --------
    >>> from accelerate import Accelerator
    >>> from sklearn.datasets import load_iris
    >>> from sk_mixup import AccelerateMixin, MixupClassifier
    >>> class Net(AccelerateMixin, MixupClassifier):
    ...     pass
    >>> X, y = load_iris(return_X_y=True)
    >>> net = Net(accelerator=Accelerator(cpu=True), max_epochs=3, random_state=0).fit(X, y)
    >>> len(net.history)
    3
    """

    _trains_by_processes = True
    _prepared: Mapping[str, Any] = {}
    _bare: Mapping[str, Any] = {}
    _begins_cycle = True
    device: Any
    callbacks__print_log__sink: Any

    def check_mixing_options(self) -> None:
        """Raise if an option breaks its rule, also those that an accelerator brings."""
        _check_accelerator(self.accelerator)
        if self.cuda_graph:
            raise ValueError("cuda_graph must be False with an accelerator; got True. Drop one of them.")
        if self.autocast == "float16":
            raise ValueError(
                "autocast must be None or 'bfloat16' with an accelerator; got 'float16'. Use "
                "Accelerator(mixed_precision='fp16')."
            )
        if self._n_processes > 1:
            self._check_several()
        super().check_mixing_options()

    def _check_several(self) -> None:
        """Raise if an option does not go with several processes."""
        n_processes, seed = self._n_processes, self.random_state
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise TypeError(
                f"random_state must be an int where {n_processes} processes train one net; got {seed!r}. "
                "Give the same int in each, so that they agree on weights and rows."
            )
        own = super(SkorchAccelerateMixin, self).get_training_batches
        if own.__func__ is not MixupNetMixin.get_training_batches:
            raise ValueError(
                f"{type(self).__name__} must be trained by one process; got {n_processes}. Start it without "
                "accelerate, or with --num_processes 1."
            )
        if find_task() is not None:
            raise ValueError(
                f"stacked must be used in one process; got {n_processes}. Fit the nets one after the other."
            )

    @property
    def _processes(self) -> AcceleratedProcesses | Processes:
        """Who trains the net."""
        several = int(self.accelerator.num_processes) > 1
        return AcceleratedProcesses(self.accelerator) if several else Processes()

    @property
    def _n_processes(self) -> int:
        return self._processes.n_processes

    @property
    def _torch_device(self) -> torch.device:
        placed = self.device is not None or "module_" in vars(self)
        device: torch.device = super()._torch_device if placed else self.accelerator.device
        return device

    def initialize(self) -> Self:
        """Initialize the components, and let the accelerator prepare them."""
        _check_accelerator(self.accelerator)
        self._wrapped_with_accelerator = False
        super(SkorchAccelerateMixin, self).initialize()
        return self._initialize_accelerator()

    def _initialize_callbacks(self) -> Any:
        """Let only the main process print, and no more than `verbose` says."""
        given = self.callbacks__print_log__sink
        if given == "auto":
            self.callbacks__print_log__sink = print if self.accelerator.is_main_process else _say_nothing
        try:
            return super()._initialize_callbacks()
        finally:
            self.callbacks__print_log__sink = given

    def _initialize_accelerator(self) -> Any:
        """Let the accelerator prepare the components; the modules stay what they are."""
        if self._wrapped_with_accelerator:
            return self
        self._check_components()
        self._set_memory_format()  # before buckets of gradients are laid out like the weights
        bare = {f"{name}_": vars(self)[f"{name}_"] for name in self._modules}
        # accelerate would wrap a criterion without parameters too, which torch refuses.
        with self._swapped({"_criteria": []}):
            super()._initialize_accelerator()
        for name in self._criteria:
            self._place_criterion(vars(self)[f"{name}_"])
        self._prepared = {name: vars(self)[name] for name in bare}
        self.__dict__.update(bare)
        self._begins_cycle = True
        return self

    def _place_criterion(self, criterion: Any) -> None:
        if self.accelerator.device_placement and isinstance(criterion, nn.Module):
            criterion.to(self.accelerator.device)

    def _check_components(self) -> None:
        for name in self._optimizers:
            optimizer = vars(self)[f"{name}_"]
            if isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.LBFGS):
                raise ValueError(
                    f"{name} must step without a closure with an accelerator; got LBFGS. Use Adam or SGD."
                )
        for name in self._criteria if self._n_processes > 1 else ():
            criterion = vars(self)[f"{name}_"]
            if isinstance(criterion, nn.Module) and any(p.requires_grad for p in criterion.parameters()):
                raise ValueError(
                    f"{name} must have no parameters that are trained where several processes train; got "
                    f"{type(criterion).__name__}. Move them into the module."
                )

    def _unwrap_accelerator(self) -> None:
        """Take the components back from the accelerator."""
        super()._unwrap_accelerator()
        self._prepared = {}

    @contextmanager
    def _swapped(self, components: Mapping[str, Any]) -> Iterator[None]:
        """Have other components inside."""
        before = {name: getattr(self, name) for name in components}
        self.__dict__.update(components)
        try:
            yield
        finally:
            self.__dict__.update(before)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Have inside what the accelerator has made of the modules."""
        self._bare = {name: vars(self)[name] for name in self._prepared}
        try:
            with self._swapped(self._prepared), self.accelerator.accumulate(*self._prepared.values()):
                yield
        finally:
            self._bare = {}

    @property
    def _bare_module(self) -> Any:
        return self._bare.get("module_", super()._bare_module)

    def train_step(self, batch: object, **fit_params: object) -> dict[str, Any]:
        """Do one optimisation step, or a part of one where the accelerator accumulates gradients."""
        with self._in_step():
            step: dict[str, Any] = super(SkorchAccelerateMixin, self).train_step(batch, **fit_params)
            self._begins_cycle = self.accelerator.sync_gradients
        return step

    def train_step_single(self, batch: object, **fit_params: object) -> dict[str, Any]:
        """Mix one batch, compute its loss and the gradients."""
        step: dict[str, Any] = super(SkorchAccelerateMixin, self).train_step_single(batch, **fit_params)
        return step

    def _descend_from(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def _make_autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        own: Callable[[], AbstractContextManager[Any]] = super()._make_autocast()
        return own if _is_plain(self.accelerator) else self._enter_both

    @contextmanager
    def _enter_both(self) -> Iterator[None]:
        """Cast as the accelerator says where it prepared the module, and as `autocast` says."""
        with ExitStack() as stack:
            if self._wrapped_with_accelerator:
                stack.enter_context(self.accelerator.autocast())
            stack.enter_context(super()._make_autocast()())
            yield

    def _zero_grad_optimizer(self, set_to_none: bool = True) -> None:
        """Forget the gradients, but not those that are being accumulated."""
        if not self._begins_cycle:
            return
        for name in self._optimizers:
            # An accelerated optimizer would do so where a cycle ends, before its last gradients.
            _get_bare(vars(self)[f"{name}_"]).zero_grad(set_to_none=set_to_none)

    def _step_optimizer(self, step_fn: Any) -> None:
        if step_fn is not None:  # a train_step of the user's own, as skorch's
            step_fn()
        super(SkorchAccelerateMixin, self)._step_optimizer(None)

    def notify(self, method_name: str, **kwargs: object) -> None:
        """Call the callbacks; gradients are shown to them where the accelerator has summed them."""
        if method_name != "on_grad_computed" or self.accelerator.sync_gradients:
            super().notify(method_name, **kwargs)

    def _find_own_step(self) -> str:
        """Return why steps must be gone through one by one, also for the accelerator's sake."""
        if self._n_processes > 1:
            return "several processes train one net"
        if not _is_plain(self.accelerator) or any(vars(self)[k] is not v for k, v in self._prepared.items()):
            return "the accelerator accumulates, casts or compiles"
        with self._bare_optimizers():
            return str(super()._find_own_step())

    def _build_trainer(self, *args: object, **kwargs: object) -> Any:
        with self._bare_optimizers() as accelerated:
            trainer = super()._build_trainer(*args, **kwargs)
        for optimizer in accelerated:
            optimizer._opt_called = True  # a scheduler of torch's asks whether it was stepped
        return trainer

    @contextmanager
    def _bare_optimizers(self) -> Iterator[list[Any]]:
        """Have the optimizers without what the accelerator put round them; give those that it did."""
        accelerated = {f"{name}_": vars(self)[f"{name}_"] for name in self._optimizers}
        with self._swapped({name: _get_bare(optimizer) for name, optimizer in accelerated.items()}):
            yield list(accelerated.values())

    def evaluation_step(self, batch: object, training: bool = False) -> Any:
        """Return the module's output for one batch of this process."""
        return super(SkorchAccelerateMixin, self).evaluation_step(batch, training=training)

    def fit_loop(self, *args: object, **kwargs: object) -> Self:
        """Run the epochs; an earlier training has taken the components from the accelerator."""
        self._initialize_accelerator()
        return super().fit_loop(*args, **kwargs)

    def get_split_datasets(self, *args: object, **kwargs: object) -> Any:
        """Return the training and the validation set, the same in all processes."""
        train, valid = super().get_split_datasets(*args, **kwargs)
        if self._n_processes > 1:
            n_rows = None if isinstance(train, IterableDataset) else get_len(train)
            check_alike({"X": n_rows} | {name: getattr(self, name) for name in ALIKE}, self._n_processes)
        return train, valid

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return all batches of a data set; it is training that shares them out."""
        iterator = super(SkorchAccelerateMixin, self).get_iterator(dataset, training=training)
        device = self._torch_device
        there = training or isinstance(iterator, RowSlices) or device.type == "cpu"
        return iterator if there else _SentBatches(iterator, device)

    def get_training_batches(self, *args: object, **kwargs: object) -> Any:
        """Return the batches of one epoch that are this process's."""
        batches = super().get_training_batches(*args, **kwargs)
        state = self.accelerator.gradient_state
        return batches if state.num_steps == 1 else AnnouncedBatches(batches, state)

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable[..., Any], **fit_params: object
    ) -> None:
        """Run one pass; its losses are then averaged over the processes, once."""
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if iterator is None or self._n_processes == 1:
            return
        if training:
            self._share_buffers()
        rows = [row for row in self.history[-1]["batches"] if f"{prefix}_batch_size" in row]
        self._processes.average(rows, f"{prefix}_batch_size", joined=training)

    def _share_buffers(self) -> None:
        """Give all processes the first one's buffers, as in the next forward pass of a step."""
        for name in self._modules:
            for buffer in vars(self)[f"{name}_"].buffers():
                torch.distributed.broadcast(buffer, src=0)

    def save_params(self, *args: object, **kwargs: object) -> None:
        """Save the module's weights in the main process, when all are there; see ``skorch.NeuralNet``."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            super(SkorchAccelerateMixin, self).save_params(*args, **kwargs)

    def load_params(self, *args: object, **kwargs: object) -> None:
        """Load what ``save_params`` wrote, in each process, when all are there."""
        self.accelerator.wait_for_everyone()
        given = self.device
        self.device = "cpu" if given is None else given  # skorch asks where files are mapped to
        try:
            super(SkorchAccelerateMixin, self).load_params(*args, **kwargs)
        finally:
            self.device = given

    def _restore_learned(self, file: Any) -> None:
        mapped, self.device = self.device, None if self.accelerator.device_placement else self.device
        try:
            super()._restore_learned(file)
        finally:
            self.device = mapped


class _SentBatches:
    """Batches of a loader, sent to the device."""

    def __init__(self, batches: Any, device: torch.device) -> None:
        self.batches = batches
        self.device = device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield to_device(batch, device=self.device)


def _get_bare(optimizer: Any) -> Any:
    """Return an optimizer without what an accelerator put round it."""
    return optimizer.optimizer if getattr(optimizer, "_is_accelerate_prepared", False) else optimizer


def _is_plain(accelerator: Any) -> bool:
    """Whether a step with the accelerator is the same as one without it."""
    return accelerator.mixed_precision == "no" and accelerator.gradient_accumulation_steps == 1


def _say_nothing(text: str) -> None:
    """Stand in the place of print where another process prints."""


def _check_accelerator(accelerator: Any) -> None:
    """Raise unless an accelerator trains copies of a module, in one process or several."""
    if not hasattr(accelerator, "prepare"):
        raise TypeError(
            f"accelerator must be an accelerate.Accelerator; got {accelerator!r}. Give Accelerator()."
        )
    kind = getattr(accelerator.distributed_type, "value", "NO")
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"accelerator must train copies of the whole module; got the distributed type {kind}. Start it "
            "with accelerate launch --num_processes, without sharding."
        )
