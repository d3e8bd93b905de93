"""A skorch user's code runs unchanged with the class name swapped and ``alpha=0``."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.modules import MLP
from tests.helpers.nets import USER, Make, Net, get_accuracy, get_weights, is_equal

# -- the same numbers as skorch ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 7},
        {"batch_size": -1},
        {"optimizer": torch.optim.Adam, "lr": 0.01},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__weight_decay": 0.01},
        {"train_split": None},
        {"train_split": ValidSplit(3)},
        {"criterion__label_smoothing": 0.1},
        {"criterion__weight": torch.tensor([1.0, 2.0, 3.0])},
        {"callbacks": [LRScheduler("StepLR", step_size=1)]},
        {"callbacks": [GradientNormClipping(0.1)]},
        {"optimizer": torch.optim.LBFGS, "batch_size": -1},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_net_trains_as_in_skorch(blobs: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    start = Net().state_dict()

    def fit(owner: Any) -> Any:
        module = Net()
        module.load_state_dict(start)
        net = owner(module, **{**USER, "iterator_train__shuffle": False, **options})
        return net.fit(blobs.X, blobs.y)

    ours, theirs = fit(partial(MixupClassifier, alpha=0, calibrate=False)), fit(NeuralNetClassifier)
    held_out = options.get("train_split", True) is not None
    columns = ["train_loss", *(["valid_loss", "valid_acc"] if held_out else [])]
    np.testing.assert_allclose(ours.history[:, columns], theirs.history[:, columns], rtol=1e-5)
    expected = nn.functional.softmax(theirs.forward(blobs.X), dim=1)
    np.testing.assert_allclose(ours.predict_proba(blobs.X), expected, rtol=1e-4, atol=1e-6)


def test_regressor_trains_as_in_skorch(plane: Any) -> None:
    torch.manual_seed(0)
    start = MLP(5, 2).state_dict()

    def fit(owner: Any) -> Any:
        module = MLP(5, 2)
        module.load_state_dict(start)
        options = {"lr": 0.05, "max_epochs": 3, "batch_size": 16, "verbose": 0, "optimizer": torch.optim.SGD}
        net = owner(module, **options, train_split=ValidSplit(4), iterator_train__shuffle=False)
        return net.fit(plane.X, plane.y)

    plain = partial(MixupRegressor, alpha=0, standardize_targets=False)
    ours, theirs = fit(plain), fit(NeuralNetRegressor)
    columns = ["train_loss", "valid_loss"]
    np.testing.assert_allclose(ours.history[:, columns], theirs.history[:, columns], rtol=1e-5)
    np.testing.assert_allclose(ours.predict(plane.X), theirs.predict(plane.X), rtol=1e-4, atol=1e-6)


# -- options -----------------------------------------------------------------------------


def test_options_of_components_are_set_before_fit(make: Make, blobs: Any) -> None:
    net = make().set_params(optimizer__weight_decay=0.25, lr=0.01, module__width=4, max_epochs=1)
    net.fit(blobs.X, blobs.y)
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.25
    assert net.optimizer_.param_groups[0]["lr"] == 0.01
    assert net.module_.first.out_features == 4


def test_options_of_the_optimizer_are_set_on_an_initialized_net(make: Make) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    module = net.module_
    net.set_params(optimizer__weight_decay=0.25, lr=0.01)
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.25
    assert net.optimizer_.param_groups[0]["lr"] == 0.01
    assert net.module_ is module


def test_options_of_the_module_build_it_anew(make: Make) -> None:
    net = make(classes=[0, 1, 2]).initialize().set_params(module__width=4)
    assert net.module_.first.out_features == 4
    assert net.optimizer_.param_groups[0]["params"][0] is net.module_.first.weight


def test_options_of_callbacks_are_set(make: Make, blobs: Any) -> None:
    net = make(callbacks=[("stop", EarlyStopping(patience=9))])
    net.set_params(callbacks__stop__patience=2, callbacks__stop__threshold=10.0)
    net.set_params(callbacks__stop__threshold_mode="abs", max_epochs=20)
    assert len(net.fit(blobs.X, blobs.y).history) == 3


def test_options_are_searched(make: Make, blobs: Any) -> None:
    grid = {"module__width": [4, 8], "optimizer__weight_decay": [0.0, 0.1], "lr": [0.1]}
    search = GridSearchCV(make(max_epochs=1), grid, cv=2, error_score="raise").fit(blobs.X, blobs.y)
    assert len(search.cv_results_["params"]) == 4


def test_options_of_parameter_groups_are_used(make: Make, blobs: Any) -> None:
    groups = [("first.*", {"lr": 0.0}), ("last.bias", {"lr": 0.5})]
    net = make(optimizer__param_groups=groups, classes=[0, 1, 2]).initialize()
    before = get_weights(net)
    net.partial_fit(blobs.X, blobs.y)
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.0, 0.5, 0.1]
    assert torch.equal(net.module_.first.weight, before["first.weight"])
    assert not torch.equal(net.module_.last.weight, before["last.weight"])


def test_module_may_be_an_instance(make: Make, blobs: Any) -> None:
    net = make(Net(width=4), max_epochs=9).fit(blobs.X, blobs.y)
    assert net.module_.first.out_features == 4
    assert net.score(blobs.X, blobs.y) > 0.5


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fit_leaves_a_module_that_is_an_instance_as_it_was(blobs: Any, method: str) -> None:
    module = Net(width=4)
    before = copy.deepcopy(module.state_dict())
    net = getattr(MixupClassifier(module, **USER), method)(blobs.X, blobs.y)
    assert net.module_ is not module
    assert all(torch.equal(module.state_dict()[name], weight) for name, weight in before.items())
    assert MixupClassifier(module).initialize().module_ is module  # skorch's users ask for the very one


def test_module_may_be_a_function(make: Make, blobs: Any) -> None:
    net = make(lambda width: Net(width), module__width=4).fit(blobs.X, blobs.y)
    assert net.module_.first.out_features == 4


def test_criterion_may_be_an_instance(make: Make, blobs: Any) -> None:
    assert len(make(criterion=nn.CrossEntropyLoss()).fit(blobs.X, blobs.y).history) == 3


def test_probabilities_are_trained_with_nll(make: Make, blobs: Any) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    net = make(module, criterion=nn.NLLLoss, max_epochs=20).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X).sum(axis=1), 1, rtol=1e-5)
    assert net.score(blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"n_mixed": 3}, {"lam_per": "batch"}], ids=str)
def test_probabilities_are_mixed_with_nll(blobs: Any, options: dict[str, Any]) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    net = MixupClassifier(module, **{**USER, **options}, random_state=0)
    net.set_params(criterion=nn.NLLLoss, max_epochs=20).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X).sum(axis=1), 1, rtol=1e-5)
    assert net.score(blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("alpha", [0, 1])
def test_lbfgs_closes_over_one_mixed_batch(blobs: Any, alpha: float) -> None:
    options = {**USER, "optimizer": torch.optim.LBFGS, "batch_size": -1, "lr": 1, "max_epochs": 5}
    net = MixupClassifier(Net, **options, alpha=alpha, random_state=0).fit(blobs.X, blobs.y)
    assert net.score(blobs.X, blobs.y) > 0.8


def test_link_may_be_a_function(make: Make, blobs: Any) -> None:
    net = make(predict_nonlinearity=lambda logits: torch.sigmoid(logits)).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X), torch.sigmoid(net.forward(blobs.X)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doing
def test_module_is_compiled(make: Make, blobs: Any) -> None:
    net = make(compile=True, compile__backend="eager", batch_size=-1, max_epochs=9).fit(blobs.X, blobs.y)
    assert isinstance(net.module_, torch._dynamo.eval_frame.OptimizedModule)
    assert net.score(blobs.X, blobs.y) > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_module_trains_the_same_net(blobs: Any) -> None:
    net = MixupClassifier(early_stopping=False, max_epochs=3, random_state=0)
    plain = net.fit(blobs.X, blobs.y).predict_proba(blobs.X)
    fast = net.set_params(compile=True).fit(blobs.X, blobs.y).predict_proba(blobs.X)
    np.testing.assert_allclose(fast, plain, rtol=1e-4)


# -- prediction --------------------------------------------------------------------------


def test_forward_returns_the_outputs_of_the_module(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    output = net.forward(blobs.X)
    assert output.shape == (60, 3)
    with torch.no_grad():
        expected = net.module_(torch.as_tensor(blobs.X))
    torch.testing.assert_close(output, expected)


def test_forward_iter_yields_outputs_in_order(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    torch.testing.assert_close(torch.cat(list(net.forward_iter(blobs.X))), net.forward(blobs.X))


def test_forward_in_training_mode_drops_units(make: Make, blobs: Any) -> None:
    net = make(module__dropout=0.5).fit(blobs.X, blobs.y)
    assert not torch.equal(net.forward(blobs.X, training=True), net.forward(blobs.X))
    torch.testing.assert_close(net.forward(blobs.X), net.forward(blobs.X))


def test_infer_calls_the_module(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    assert net.infer(torch.as_tensor(blobs.X[:4])).shape == (4, 3)


def test_module_of_several_outputs_is_trained_by_the_first(make: Make, blobs: Any) -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), x

    class OnFirst(nn.CrossEntropyLoss):
        def forward(self, output: Any, target: Tensor) -> Tensor:
            return super().forward(output[0], target)

    net = make(Twice, criterion=OnFirst, callbacks__valid_acc=None, predict_nonlinearity=None, max_epochs=20)
    net.fit(blobs.X, blobs.y)
    assert get_accuracy(net, blobs.X, blobs.y) > 0.8
    assert [part.shape for part in net.forward(blobs.X)] == [(60, 3), (60, 5)]


# -- going on ----------------------------------------------------------------------------


def test_partial_fit_goes_on(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    before = get_weights(net)
    net.partial_fit(blobs.X, blobs.y)
    assert len(net.history) == 6
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]
    assert not is_equal(get_weights(net), before)


def test_partial_fit_begins(make: Make, blobs: Any) -> None:
    assert len(make().partial_fit(blobs.X, blobs.y).history) == 3


def test_warm_start_goes_on(make: Make, blobs: Any) -> None:
    net = make(warm_start=True).fit(blobs.X, blobs.y)
    assert len(net.fit(blobs.X, blobs.y).history) == 6


def test_fit_begins_anew(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    assert len(net.fit(blobs.X, blobs.y).history) == 3


def test_fit_loop_runs_as_many_epochs_as_asked(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    net.fit_loop(blobs.X, blobs.y, epochs=2)
    assert len(net.history) == 5


def test_initialized_net_saves_and_loads(make: Make, tmp_path: Any) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    net.save_params(f_params=tmp_path / "params.pt", f_optimizer=tmp_path / "optimizer.pt")
    torch.manual_seed(1)
    other = make(classes=[0, 1, 2]).initialize()
    other.load_params(f_params=tmp_path / "params.pt", f_optimizer=tmp_path / "optimizer.pt")
    assert is_equal(get_weights(other), get_weights(net))


def test_initialized_net_predicts(make: Make, blobs: Any) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    assert net.predict_proba(blobs.X).shape == (60, 3)
