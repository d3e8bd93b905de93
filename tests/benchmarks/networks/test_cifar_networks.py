"""The networks against their papers, against slow references, and in use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from benchmarks.networks.cifar_networks import NETWORKS, DenseNetBC, PreActBlock, PreActResNet18, WideResNet
from sk_mixup import MixupClassifier

TINY: dict[str, dict[str, Any]] = {
    "preact_resnet18": {"width": 4},
    "wide_resnet28_10": {"depth": 10, "widen_factor": 1},
    "densenet_bc190": {"depth": 10, "growth_rate": 2},
}
DROPPING = ["preact_resnet18", "wide_resnet28_10"]
every_network = pytest.mark.parametrize("name", list(NETWORKS))


def make_tiny(name: str, seed: int = 0, **options: Any) -> nn.Module:
    """Return a small net for three classes, after one look at images, so that no statistic is 0 or 1."""
    torch.manual_seed(seed)
    net = NETWORKS[name].module(3, **{**TINY[name], **options})
    net(make_images(8, channels=options.get("in_channels", 3)))
    return net


def make_images(n_samples: int = 4, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    return torch.randn(n_samples, channels, height, width, generator=torch.Generator().manual_seed(1))


def make_meta(module: type[nn.Module], *args: Any, **options: Any) -> nn.Module:
    """Return a net whose weights take no memory."""
    with torch.device("meta"):
        return module(*args, **options)


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def find_parts(net: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [part for part in net.modules() if isinstance(part, kind)]


# -- size --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "digits"), [("preact_resnet18", 2), *((n, 1) for n in list(NETWORKS)[1:])])
def test_networks_have_as_many_parameters_as_printed(name: str, digits: int) -> None:
    network = NETWORKS[name]
    assert round(count_parameters(make_meta(network.module, 10)) / 1e6, digits) == network.n_millions


def count_block(n_in: int, n_out: int) -> int:
    return 2 * n_in + 9 * n_in * n_out + 2 * n_out + 9 * n_out * n_out


def count_preact(out_features: int, width: int = 64, in_channels: int = 3) -> int:
    total = 9 * in_channels * width
    for n_in, n_out in ((1, 1), (1, 2), (2, 4), (4, 8)):
        shortcut = n_in * n_out if n_in != n_out else 0
        total += count_block(n_in * width, n_out * width) + shortcut * width**2
        total += count_block(n_out * width, n_out * width)
    return total + 16 * width + (8 * width + 1) * out_features


def count_wide(out_features: int, depth: int = 28, widen_factor: int = 10, in_channels: int = 3) -> int:
    total, n_in = 9 * in_channels * 16, 16
    for n_out in (16 * widen_factor, 32 * widen_factor, 64 * widen_factor):
        total += count_block(n_in, n_out) + (n_in * n_out if n_in != n_out else 0)
        total += ((depth - 4) // 6 - 1) * count_block(n_out, n_out)
        n_in = n_out
    return total + 2 * n_in + (n_in + 1) * out_features


def count_dense(
    out_features: int,
    depth: int = 190,
    growth_rate: int = 40,
    in_channels: int = 3,
) -> int:
    k, m = growth_rate, 2 * growth_rate
    total = 9 * in_channels * m
    for stage in range(3):
        for _ in range((depth - 4) // 6):
            total += 2 * m + m * 4 * k + 2 * 4 * k + 9 * 4 * k * k
            m += k
        if stage < 2:
            kept = m // 2
            total += 2 * m + m * kept
            m = kept
    return total + 2 * m + (m + 1) * out_features


@pytest.mark.parametrize(
    ("module", "count", "args", "options"),
    [
        (PreActResNet18, count_preact, (10,), {}),
        (PreActResNet18, count_preact, (7,), {"width": 5, "in_channels": 1}),
        (WideResNet, count_wide, (10,), {}),
        (WideResNet, count_wide, (7,), {"depth": 16, "widen_factor": 1, "in_channels": 4}),
        (DenseNetBC, count_dense, (10,), {}),
        (DenseNetBC, count_dense, (7,), {"depth": 22, "growth_rate": 3}),
    ],
)
def test_networks_have_as_many_parameters_as_their_layers(
    module: type[nn.Module], count: Callable[..., int], args: tuple[int, ...], options: dict[str, Any]
) -> None:
    assert count_parameters(make_meta(module, *args, **options)) == count(*args, **options)


def count_layers(net: nn.Module) -> tuple[int, int, int]:
    """Return the numbers of wide convolutions, of narrow ones and of linear layers."""
    sizes = [conv.kernel_size for conv in find_parts(net, nn.Conv2d)]
    return sizes.count((3, 3)), sizes.count((1, 1)), len(find_parts(net, nn.Linear))


def test_preact_resnet_has_18_layers_outside_shortcuts() -> None:
    n_wide, n_narrow, n_linear = count_layers(make_meta(PreActResNet18, 10))
    assert (n_wide + n_linear, n_narrow) == (18, 3)


@pytest.mark.parametrize("depth", [10, 28, 40])
def test_wide_resnet_has_depth_convolutions(depth: int) -> None:
    n_wide, n_narrow, _ = count_layers(make_meta(WideResNet, 10, depth=depth, widen_factor=2))
    assert (n_wide + n_narrow, n_narrow) == (depth, 3)


@pytest.mark.parametrize("depth", [10, 40, 190])
def test_dense_net_has_depth_layers(depth: int) -> None:
    n_wide, n_narrow, n_linear = count_layers(make_meta(DenseNetBC, 10, depth=depth, growth_rate=2))
    assert n_wide + n_narrow + n_linear == depth
    assert n_narrow - 2 == n_wide - 1 == (depth - 4) // 2


# -- shapes ------------------------------------------------------------------------------

STAGES = {
    "preact_resnet18": [(4, 12, 16), (8, 6, 8), (16, 3, 4), (32, 2, 2)],
    "wide_resnet28_10": [(16, 12, 16), (32, 6, 8), (64, 3, 4)],
    # 4 + 2 channels, halved; 3 + 2, halved; 2 + 2.
    "densenet_bc190": [(3, 6, 8), (2, 3, 4), (4, 3, 4)],
}


@every_network
def test_networks_have_their_shapes_stage_by_stage(name: str) -> None:
    net = make_tiny(name)
    shapes: list[tuple[int, ...]] = []
    for part in [net.stem, *net.stages]:
        part.register_forward_hook(lambda part, args, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        assert net(make_images(2, 12, 16)).shape == (2, 3)
    assert shapes == [(net.stem.out_channels, 12, 16), *STAGES[name]]


@every_network
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (8, 17)])
def test_networks_take_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    logits = make_tiny(name).eval()(make_images(2, *size))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


@every_network
def test_networks_take_grey_images(name: str) -> None:
    assert make_tiny(name, in_channels=1)(make_images(channels=1)).shape == (4, 3)


# -- residual blocks ---------------------------------------------------------------------


def normalise(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return what a normalisation does in training, by its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    scale, shift = (values.reshape(1, -1, 1, 1) for values in (norm.weight, norm.bias))
    return (x - mean) / torch.sqrt(variance + norm.eps) * scale + shift


def scatter_norms(net: nn.Module) -> None:
    """Give all normalisations weights of their own, so that none can stand for another."""
    generator = torch.Generator().manual_seed(2)
    for norm in find_parts(net, nn.BatchNorm2d):
        nn.init.uniform_(norm.weight, 0.5, 2.0, generator=generator)
        nn.init.normal_(norm.bias, generator=generator)


BLOCKS = [(4, 4, 1, False), (4, 4, 1, True), (4, 6, 1, False), (4, 4, 2, False), (4, 8, 2, True)]
every_block = pytest.mark.parametrize(("n_in", "n_out", "stride", "is_first"), BLOCKS)


@every_block
def test_block_equals_its_reference(
    n_in: int, n_out: int, stride: int, is_first: bool, float64: None
) -> None:
    block = PreActBlock(n_in, n_out, stride, is_first=is_first)
    scatter_norms(block)
    x = make_images(channels=n_in)
    active = normalise(block.norm1, x).clamp(min=0)
    hidden = conv2d(active, block.conv1.weight, stride=stride, padding=1)
    hidden = normalise(block.norm2, hidden).clamp(min=0)
    carried = active if is_first or (n_in, stride) != (n_out, 1) else x
    if block.shortcut is not None:
        carried = carried[:, :, ::stride, ::stride]
        carried = torch.einsum("oi,nihw->nohw", block.shortcut.weight[:, :, 0, 0], carried)
    torch.testing.assert_close(block(x), carried + conv2d(hidden, block.conv2.weight, padding=1))


@pytest.mark.parametrize(("n_in", "n_out", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2)])
def test_shortcut_is_the_identity_where_shapes_agree(n_in: int, n_out: int, stride: int) -> None:
    block = PreActBlock(n_in, n_out, stride)
    nn.init.zeros_(block.conv2.weight)
    x = make_images(channels=n_in)
    if (n_in, stride) == (n_out, 1):
        assert block.shortcut is None
        assert torch.equal(block(x), x)
    else:
        assert (block.shortcut.kernel_size, block.shortcut.stride) == ((1, 1), (stride, stride))


@pytest.mark.parametrize("name", DROPPING)
def test_first_block_alone_parts_after_the_stems_activation(name: str) -> None:
    first, *others = find_parts(make_tiny(name), PreActBlock)
    assert first.parts_after_relu
    assert all(block.parts_after_relu == (block.shortcut is not None) for block in others)


# -- dropout -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_of_zero_adds_no_module(name: str) -> None:
    assert find_parts(make_tiny(name), nn.Dropout) == []


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_is_in_every_block(name: str) -> None:
    net = make_tiny(name, dropout=0.3)
    assert [part.p for part in find_parts(net, nn.Dropout)] == [0.3] * len(find_parts(net, PreActBlock))


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_acts_in_training_only(name: str) -> None:
    plain, dropping = make_tiny(name), make_tiny(name, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = make_images()
    assert not torch.allclose(dropping(x), plain(x))
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(dropping.eval()(x), plain.eval()(x))


def test_dropout_stands_between_the_convolutions() -> None:
    block = PreActBlock(4, 6, dropout=0.5)
    seen: dict[str, Tensor] = {}
    block.conv1.register_forward_pre_hook(lambda part, args: seen.update(first=args[0]))
    block.conv1.register_forward_hook(lambda part, args, output: seen.update(hidden=output))
    block.conv2.register_forward_pre_hook(lambda part, args: seen.update(second=args[0]))
    x = make_images(8)[:, [0, 1, 2, 0]]
    block(x)
    torch.testing.assert_close(seen["first"], normalise(block.norm1, x).clamp(min=0))
    whole = normalise(block.norm2, seen["hidden"]).clamp(min=0)
    kept = seen["second"] != 0
    torch.testing.assert_close(seen["second"][kept], 2 * whole[kept])
    assert abs(kept.sum() / (whole > 0).sum() - 0.5) < 0.05


# -- dense layers ------------------------------------------------------------------------


def test_dense_block_equals_its_reference(float64: None) -> None:
    net = DenseNetBC(3, depth=16, growth_rate=2)
    scatter_norms(net)
    block, transition = net.stages[0]
    x = make_images(channels=4)
    maps = x
    for layer in block:
        narrow = conv2d(normalise(layer.norm1, maps).clamp(min=0), layer.conv1.weight)
        new = conv2d(normalise(layer.norm2, narrow).clamp(min=0), layer.conv2.weight, padding=1)
        maps = torch.cat([maps, new], dim=1)
    torch.testing.assert_close(block(x), maps)
    narrow = conv2d(normalise(transition.norm, maps).clamp(min=0), transition.conv.weight)
    torch.testing.assert_close(transition(maps), narrow.reshape(4, -1, 4, 2, 4, 2).mean((3, 5)))


# -- use ---------------------------------------------------------------------------------


@every_network
def test_networks_start_as_he_et_al_say(name: str) -> None:
    net = NETWORKS[name].module(10, **{**TINY[name], "in_channels": 64})
    for norm in find_parts(net, nn.BatchNorm2d):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    assert (net.head.bias == 0).all()
    squares = [(conv.weight**2 * conv.weight[0].numel() / 2).flatten() for conv in find_parts(net, nn.Conv2d)]
    # The mean of n squares of a standard normal number has variance 2 / n.
    assert all(abs(values.mean() - 1) < 4 * (2 / len(values)) ** 0.5 for values in squares)


@every_network
def test_gradient_reaches_every_parameter(name: str) -> None:
    net = make_tiny(name)
    cross_entropy(net(make_images()), torch.tensor([0, 1, 2, 0])).backward()
    still = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@every_network
def test_networks_work_in_float64(name: str) -> None:
    net = make_tiny(name)
    x = make_images()
    single = net.eval()(x)
    double = net.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


@every_network
def test_networks_work_with_channels_last(name: str) -> None:
    net = make_tiny(name).eval()
    x = make_images()
    first = net(x)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), first, rtol=1e-4, atol=1e-4)


@every_network
def test_networks_keep_channels_last(name: str) -> None:
    net = make_tiny(name).to(memory_format=torch.channels_last)
    layouts: list[bool] = []
    for conv in find_parts(net, nn.Conv2d):
        conv.register_forward_pre_hook(
            lambda part, args: layouts.append(args[0].is_contiguous(memory_format=torch.channels_last))
        )
    net(make_images().to(memory_format=torch.channels_last))
    assert len(layouts) == len(find_parts(net, nn.Conv2d))
    assert all(layouts)


@every_network
def test_networks_work_in_mixed_precision(name: str) -> None:
    net = make_tiny(name)
    x, y = make_images(), torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(x)
        cross_entropy(logits, y).backward()
    assert logits.dtype == torch.bfloat16
    assert all(
        value.grad.dtype == torch.float32 and value.grad.isfinite().all() for value in net.parameters()
    )
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net.eval()(x)
    torch.testing.assert_close(mixed.float(), net(x), rtol=0.1, atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doing
@every_network
def test_networks_compile_in_one_graph(name: str) -> None:
    net = make_tiny(name)
    x = make_images()
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))


@every_network
@pytest.mark.parametrize("n_classes", [2, 3])
def test_networks_learn_in_the_classifier(name: str, n_classes: int) -> None:
    X = make_images(24).numpy()
    y = np.arange(24) % n_classes
    # On processors without AVX-512, oneDNN 3.12 corrupts memory in the backward pass of a strided
    # 1x1 convolution of fewer than 8 channels whose images have their channels last.
    tiny = {"width": 8} if name == "preact_resnet18" else TINY[name]
    options = {f"module__{key}": value for key, value in tiny.items()}
    net = MixupClassifier(
        NETWORKS[name].module,
        **options,
        early_stopping=False,
        max_epochs=2,
        batch_size=8,
        channels_last=True,
        random_state=0,
    ).fit(X, y)
    assert net.predict_proba(X).shape == (24, n_classes)
    assert np.isfinite(net.loss_curve_).all()
