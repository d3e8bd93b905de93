"""What skorch must know to train a generator and a discriminator."""

from __future__ import annotations

from collections.abc import Iterator
import copy
import inspect
import math
from typing import Any, ClassVar

from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer
from skorch.utils import TeeGenerator
import torch
from torch import Tensor, nn

from sk_mixup._random import draw_seed, make_generator, seeded_torch, unseen_draws
from sk_mixup._skorch.default_callbacks import QuietPrintLog, has_batch_hooks
from sk_mixup._skorch.stack_member import StackMemberMixin, exclusive_section, find_own_stream, warn_single
from sk_mixup._skorch.step import NetBase, can_fuse
from sk_mixup._training.epoch import Epoch
from sk_mixup._training.gan import GanBatches, GanTrainer, Player
from sk_mixup.estimators._gan_mixins import PersistenceMixin
from sk_mixup.mixing import draw_gan_plan
from sk_mixup.modules import MLP
from sk_mixup.stacking._scheduler import find_task, rejoin_scheduler

__all__ = ["AdversarialNetMixin"]

PLAYERS = ("generator", "discriminator")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
# Rows are generated and judged in blocks of one size: float32 products round differently by it.
BLOCK_SIZE = 256


class _JointFileMixin(NetBase):
    """Keeps the weights of both nets in one file, where skorch has one for each."""

    def save_params(self, f_params: Any = None, use_safetensors: bool = False, **files: Any) -> None:
        """Save the weights of both nets; see ``skorch.NeuralNet.save_params``."""
        if f_params is not None:
            self.check_is_fitted()
            torch.save(self.get_state(), f_params)
        super().save_params(use_safetensors=use_safetensors, **files)

    def load_params(self, f_params: Any = None, use_safetensors: bool = False, **files: Any) -> None:
        """Load the weights of both nets; see ``skorch.NeuralNet.load_params``."""
        if f_params is not None:
            self.check_is_fitted()
            state = self._read_state(f_params, use_safetensors)
            for name in PLAYERS:
                own = {key: value for key, value in state.items() if key.startswith(f"{name}.")}
                getattr(self, f"{name}_").load_state_dict(
                    {key.removeprefix(f"{name}."): value for key, value in own.items()}
                )
        super().load_params(use_safetensors=use_safetensors, **files)

    def _read_state(self, file: Any, use_safetensors: bool) -> dict[str, Tensor]:
        if not use_safetensors:
            state: dict[str, Tensor] = torch.load(file, map_location=self.device, weights_only=True)
            return state
        from safetensors.torch import load, load_file

        return load(file.read()) if hasattr(file, "read") else load_file(file)


# Its methods take what those of skorch take; to a type checker they come from nowhere, as skorch's do.
_JOINT: Any = _JointFileMixin


class AdversarialNetMixin(StackMemberMixin, PersistenceMixin, _JOINT):
    """Trains a generator and a discriminator in a skorch net.

    An epoch is a number of generator steps. Its draws come from one seeded generator; it is
    run in one piece but for the places where a callback wants to look on.
    """

    components: ClassVar[tuple[str, ...]] = (*PLAYERS, "optimizer", *OPTIMIZERS)
    prefixes_: ClassVar[list[str]] = [*NeuralNet.prefixes_, "optimizer"]
    use_caching = "auto"  # skorch asks for it

    def get_state(self) -> dict[str, Tensor]:
        """Return weights and buffers of both nets, by name."""
        nets = {name: getattr(self, f"{name}_").state_dict() for name in PLAYERS}
        return {f"{name}.{key}": value for name, state in nets.items() for key, value in state.items()}

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer()), ("print_log", QuietPrintLog())]

    def _get_component(self, prefix: str) -> Any:
        return getattr(self, "optimizer" if prefix.endswith("optimizer") else prefix)

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the options of a component; sizes of a net are filled in from the data."""
        params: dict[str, Any] = super().get_params_for(prefix)
        if prefix in OPTIMIZERS:
            return {**super().get_params_for("optimizer"), **params}
        module = getattr(self, prefix) if prefix in PLAYERS else None
        if not inspect.isclass(module):
            return params
        known: dict[str, Any] = {"hidden_layer_sizes": (512, 512, 512)} if issubclass(module, MLP) else {}
        known |= self._find_sizes(prefix)
        accepted = inspect.signature(module).parameters
        return {**{key: value for key, value in known.items() if key in accepted}, **params}

    def _find_sizes(self, prefix: str) -> dict[str, int]:
        n_inputs = vars(self).get("_n_inputs")
        if n_inputs is None:
            return {"in_features": self.noise_features} if prefix == "generator" else {"out_features": 1}
        if prefix == "generator":
            return {"in_features": self.noise_features, "out_features": n_inputs}
        return {"in_features": n_inputs, "out_features": 1}

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Return the optimizer's arguments; its fused kernel is used where there is one."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if can_fuse(self.optimizer, kwargs, args):
            kwargs["fused"] = True
        return args, kwargs

    def initialize(self) -> Any:
        """Initialize the components, the weights from `random_state`."""
        self.check_options()
        self.rng_ = make_generator(self.random_state)
        self.n_iter_ = 0
        rejoin_scheduler()
        with seeded_torch(draw_seed(self.rng_), alone=True):
            return super().initialize()

    def initialize_module(self) -> Any:
        """Build both nets; instances are copied, so that every fit starts from them alike."""
        for name in PLAYERS:
            kwargs, module = self.get_params_for(name), getattr(self, name)
            if inspect.isclass(module) and issubclass(module, MLP) and "_n_inputs" not in vars(self):
                self._check_sizes_given(name, kwargs)
            module = copy.deepcopy(module) if isinstance(module, nn.Module) else module
            setattr(self, f"{name}_", self.initialized_instance(module, kwargs))
        return self

    def _check_sizes_given(self, name: str, kwargs: dict[str, Any]) -> None:
        missing = [f"{name}__{key}" for key in ("in_features", "out_features") if key not in kwargs]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} must be given to initialize without data; got none. Call fit, "
                "load_params on a safetensors file, or set them."
            )

    def initialize_criterion(self) -> Any:
        """Do nothing: the loss follows from the mixing."""
        return self

    def initialize_optimizer(self, triggered_directly: Any = None) -> Any:
        """Build an optimizer for each net, of one class."""
        for name in PLAYERS:
            named = getattr(self, f"{name}_").named_parameters()
            args, kwargs = self.get_params_for_optimizer(f"{name}_optimizer", named)
            setattr(self, f"{name}_optimizer_", self.optimizer(*args, **kwargs))
        return self

    def _initialize_optimizer(self, reason: Any = None) -> Any:
        super()._initialize_optimizer(reason)
        self._register_virtual_param(["lr", "optimizer__*"], _set_in_both)
        return self

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Run the epochs; see ``skorch.NeuralNet``."""
        self.check_training_readiness()
        rows = torch.as_tensor(X).to(self.device)
        sets = {"dataset_train": rows, "dataset_valid": None}
        self._n_pieces = 0
        for _ in range(self.max_epochs if epochs is None else epochs):
            self.notify("on_epoch_begin", **sets)
            self._run_epoch(rows)
            self._check_losses_finite()
            with exclusive_section():
                try:
                    self.notify("on_epoch_end", **sets)
                except KeyboardInterrupt:  # skorch's way for a callback to stop the training
                    break
        return self

    def _run_epoch(self, rows: Tensor) -> None:
        batch_size = len(rows) if self.batch_size == -1 else min(self.batch_size, len(rows))
        shape = (self.steps_per_epoch, self.discriminator_steps + 1, batch_size)
        plan = draw_gan_plan(self.rng_, len(rows), shape, self.alpha, self.lam_per)
        trainer = GanTrainer(
            Player(self.generator_, self.generator_optimizer_),
            Player(self.discriminator_, self.discriminator_optimizer_),
            self.generator_loss,
            self._look if self._wants_gradients() else None,
        )
        watched = self._has_batch_hooks()
        start = 0
        losses: list[Tensor] = []
        try:
            while start < len(plan):
                stop = start + 1 if watched else self._find_stop(start, len(plan))
                if watched:
                    self.notify("on_batch_begin", batch=None, training=True)
                batches = GanBatches(rows, plan.slice(start, stop), self.noise_features)
                self._run_piece(trainer, batches, losses)
                self.n_iter_ += stop - start
                start = stop
                if watched:
                    self._record_losses(losses)
                    self.notify("on_batch_end", batch=None, training=True)
                self._show_iteration()
        finally:  # an interrupted epoch keeps its losses
            self._record_losses(losses)
            self._record_epoch()

    def _run_piece(self, trainer: GanTrainer, batches: GanBatches, losses: list[Tensor]) -> None:
        for name in PLAYERS:
            getattr(self, f"{name}_").train()
        self._n_pieces += 1

        def record(values: Tensor, sizes: list[int]) -> None:
            losses.append(values)

        task = find_task()
        if task is None:
            trainer.run_epoch(batches, record)
            return
        epoch = Epoch(trainer, batches, record, find_own_stream(), self._n_pieces, self.max_epochs)
        task.ask(epoch)
        epoch.stream.is_single = epoch.is_single
        if epoch.reason:
            warn_single(epoch.reason)

    def _list_watchers(self) -> list[Any]:
        """Return the callbacks that look on between generator steps, as Snapshots does."""
        return [callback for _, callback in self.callbacks_ if hasattr(callback, "on_iteration_end")]

    def _find_stop(self, start: int, n_iter: int) -> int:
        """Return up to which step of the epoch nobody wants to look on."""
        wanted = (callback.find_next(self.n_iter_) for callback in self._list_watchers())
        return min([n_iter, *(start + stop - self.n_iter_ for stop in wanted if stop is not None)])

    def _show_iteration(self) -> None:
        for callback in self._list_watchers():
            with exclusive_section():
                callback.on_iteration_end(self)

    def _has_batch_hooks(self) -> bool:
        return has_batch_hooks(self, NeuralNet) or any(
            has_batch_hooks(callback, Callback) for _, callback in self.callbacks_
        )

    def _wants_gradients(self) -> bool:
        own = type(self).on_grad_computed is not NeuralNet.on_grad_computed
        base = Callback.on_grad_computed
        return own or any(type(callback).on_grad_computed is not base for _, callback in self.callbacks_)

    def _look(self, module: nn.Module) -> None:
        named = TeeGenerator(module.named_parameters())
        self.notify("on_grad_computed", named_parameters=named, batch=None, training=True)

    def _record_losses(self, losses: list[Tensor]) -> None:
        """Move losses to the history: of each generator step its own, and the discriminator's mean."""
        if not losses:
            return
        table = torch.cat(losses).view(-1, self.discriminator_steps + 1)
        pairs = zip(table[:, :-1].mean(dim=1).tolist(), table[:, -1].tolist(), strict=True)
        rows = [{"discriminator_loss": mean, "generator_loss": loss} for mean, loss in pairs]
        batches = self.history[-1]["batches"]
        if batches and not batches[-1]:  # skorch's, begun with a batch that callbacks look at
            batches.pop()
        batches.extend(rows)
        losses.clear()

    def _record_epoch(self) -> None:
        rows = self.history[-1]["batches"]
        for key in ("discriminator_loss", "generator_loss") if rows else ():
            self.history.record(key, sum(row[key] for row in rows) / len(rows))
        self.history.record("n_iter", self.n_iter_)

    def _check_losses_finite(self) -> None:
        epoch = self.history[-1]
        for name in ("discriminator_loss", "generator_loss"):
            bad = [row[name] for row in epoch["batches"] if not math.isfinite(row[name])]
            if bad:
                raise ValueError(
                    f"{name} must stay finite; got {bad[0]} in epoch {epoch['epoch']}. Scale X (for example "
                    f"with StandardScaler), lower lr (now {self.lr}), or use "
                    "generator_loss='non-saturating'."
                )

    def check_nets(self, X: Any) -> None:
        """Raise unless the generator turns noise into rows like those of `X`, and they can be judged.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *features)
            Real examples.

        Raises
        ------
        ValueError
            If a net does not fit; the message says which.
        """
        noise = torch.zeros(2, self.noise_features, dtype=torch.get_default_dtype())
        with unseen_draws():
            fake = self._try_net("generator", noise, "noise_features", self.noise_features)
            if fake.shape[:1] != (2,) or fake[0].numel() != X[0].size:
                raise ValueError(
                    f"generator must return rows of the shape of X, {X.shape[1:]}; got an output of shape "
                    f"{tuple(fake.shape)} for 2 rows of noise. Let its last layer have {X[0].size} outputs."
                )
            logits = self._try_net("discriminator", torch.as_tensor(X[:2]), "X", X.shape[1:])
        if logits.shape not in ((2,), (2, 1)):
            raise ValueError(
                f"discriminator must return one logit for each row; got an output of shape "
                f"{tuple(logits.shape)} for 2 rows. Let its last layer have 1 output."
            )

    def _try_net(self, player: str, x: Tensor, name: str, value: Any) -> Tensor:
        module = getattr(self, f"{player}_").eval()
        try:
            with torch.no_grad():
                output: Tensor = module(x.to(self.device))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{name} must fit the {player}'s first layer; got {name} of size {value} and, from its "
                f"forward, '{reason}'. Change one of them."
            ) from error
        return output

    def evaluate_blocks(self, player: str, values: Any) -> Tensor:
        """Return the output of one net for many rows, in eval mode, the same whatever rows stand beside.

        Parameters
        ----------
        player : {'generator', 'discriminator'}
            Which net.
        values : ndarray of shape (n_samples, *features)
            Its inputs.
        """
        module = getattr(self, f"{player}_").eval()
        with torch.no_grad():
            return torch.cat(
                [output.cpu() for output in self._iterate_blocks(module, torch.as_tensor(values))]
            )

    def _iterate_blocks(self, module: nn.Module, rows: Tensor) -> Iterator[Tensor]:
        for block in torch.split(rows, BLOCK_SIZE):
            missing = BLOCK_SIZE - len(block)
            filled = torch.cat([block, block[-1:].expand(missing, *block.shape[1:])]) if missing else block
            yield module(filled.to(self.device))[: len(block)]


def _set_in_both(net: Any, param: str, value: Any) -> None:
    """Set an option of both optimizers that neither has of its own."""
    option = param.removeprefix("optimizer__")
    vars(net)[param] = value
    for name in PLAYERS:
        if f"{name}_optimizer__{option}" not in vars(net):
            for group in getattr(net, f"{name}_optimizer_").param_groups:
                group[option] = value
