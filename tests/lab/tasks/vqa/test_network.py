"""The deeper LSTM: its parts against torch's own, and what tools and methods make of it."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.graph.trace import trace
from filtersmith.lab.tasks.vqa.network import PAPER, DeeperLSTM, last_states, without_classifier

WORDS, ANSWERS, SIZE = 30, 5, 32
METHODS = ("repr", "wau", "kflo(width=4)", "dacnn", "prune")
CHANGES = ("wau(0.5)", "repr", "kflo(width=4)+wau(0.5)", "dacnn", "prune", "ema")


def network(name: str = "resnet8", **options: Any) -> DeeperLSTM:
    cnn, features = without_classifier(zoo.build(name, 10, image_size=SIZE), SIZE)
    return DeeperLSTM(cnn, features, WORDS, ANSWERS, **options)


def batch(lengths: tuple[int, ...] = (7, 3, 1, 5)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    count = len(lengths)
    tokens = torch.randint(2, WORDS, (count, 7), generator=generator)
    own = torch.tensor(lengths, dtype=torch.int64)
    return torch.randn(count, 3, SIZE, SIZE, generator=generator), tokens * (torch.arange(7) < own[:, None]), own


def packed(cells: nn.ModuleList, words: Tensor, lengths: Tensor) -> Tensor:
    """The last states by torch's LSTM and ``pack_padded_sequence``."""
    first = cells[0]
    assert isinstance(first, nn.LSTMCell)
    lstm = nn.LSTM(first.input_size, first.hidden_size, len(cells), batch_first=True)
    for layer, cell in enumerate(cells):
        lstm.load_state_dict({f"{name}_l{layer}": value for name, value in cell.state_dict().items()}, strict=False)
    sequence = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    _, (hidden, cell) = lstm(sequence)
    return torch.stack([hidden, cell], 1).permute(2, 0, 1, 3).flatten(1)


def test_states_are_those_of_torchs_lstm() -> None:
    net = network(layers=3, hidden=16)
    words = torch.randn(4, 7, 64, requires_grad=True)
    lengths = torch.tensor([7, 3, 1, 5])
    ours, theirs = last_states(words, lengths, net._weights()), packed(net.lstm, words, lengths)
    assert ours.shape == (4, 3 * 2 * 16)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(states.square().sum(), words)[0] for states in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][1, 3:].any(), "what stands behind a question has no say"


def test_padding_has_no_say() -> None:
    net = network().eval()
    images, tokens, lengths = batch((3, 2, 3, 1))
    expected = net(images, tokens, lengths)
    torch.testing.assert_close(net(images, tokens[:, :3], lengths), expected)
    torch.testing.assert_close(net(images, tokens.masked_fill(tokens == 0, 9), lengths), expected)


def test_images_are_brought_to_length_one_and_multiplied() -> None:
    net = DeeperLSTM(None, 6, WORDS, ANSWERS, common=4, mlp=3).eval()
    _, tokens, lengths = batch()
    features = torch.randn(4, 6)
    logits = net(features, tokens, lengths)
    torch.testing.assert_close(net(features * 100, tokens, lengths), logits)
    states = packed(net.lstm, torch.tanh(net.embedding(tokens)), lengths)
    unit = features / features.square().sum(1, keepdim=True).sqrt()
    product = torch.tanh(net.question(states)) * torch.tanh(net.image(unit))
    hidden, last = net.mlp[1], net.mlp[4]
    torch.testing.assert_close(logits, last(torch.tanh(hidden(product))))


def test_questions_without_words_and_batches_without_questions() -> None:
    net = network().eval()
    images, tokens, lengths = batch((0, 2))
    assert net(images, tokens, lengths).isfinite().all()
    assert net(images[:0], tokens[:0], lengths[:0]).shape == (0, ANSWERS)


def test_the_papers_sizes() -> None:
    net = DeeperLSTM(None, 4096, 14000, 1000, **PAPER)  # type: ignore[arg-type]
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "embedding.weight": (14000, 300),
        "question.weight": (1024, 2048),
        "image.weight": (1024, 4096),
        "mlp.1.weight": (1000, 1024),
        "mlp.4.weight": (1000, 1000),
    }
    assert [tuple(cell.weight_hh.shape) for cell in net.lstm] == [(2048, 512)] * 2  # type: ignore[union-attr]
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("option", ["features", "words", "answers", "embedding", "hidden", "layers", "common", "mlp"])
def test_sizes_out_of_range_are_refused(option: str) -> None:
    sizes: dict[str, Any] = {"features": 4, "words": 5, "answers": 2}
    with pytest.raises(ValueError, match=f"{option} must be"):
        DeeperLSTM(None, **(sizes | {option: 0}))
    with pytest.raises(ValueError, match="dropout must be"):
        DeeperLSTM(None, **sizes, dropout=1.0)


@pytest.mark.parametrize(
    ("name", "features", "gone"),
    [
        ("resnet8", 64, "fc"),
        ("vgg16-kflo", 512, "fc2"),
        ("vanilla-2-4", 4096, "fc"),
        ("torchvision:resnet18", 512, "fc"),
        ("torchvision:mobilenet_v3_small", 1024, "classifier.3"),
        ("timm:resnet10t", 512, "fc"),
        ("timm:convnext_atto", 320, "head.fc"),
    ],
)
def test_features_are_what_the_last_linear_layer_reads(name: str, features: int, gone: str) -> None:
    whole = zoo.build(name, 10, image_size=SIZE)
    state, before = copy.deepcopy(whole.state_dict()), torch.get_rng_state()
    cnn, width = without_classifier(whole, SIZE)
    assert width == features
    assert torch.equal(torch.get_rng_state(), before)
    assert whole.training
    assert cnn.training
    assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())
    assert state.keys() - cnn.state_dict().keys() == {f"{gone}.weight", f"{gone}.bias"}
    images = batch()[0]
    last = whole.get_submodule(gone)
    torch.testing.assert_close(last(cnn.eval()(images)), whole.eval()(images))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        return self.fc(x.mean((2, 3))), x


class MoreInTraining(TwoOutputs):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if self.training else super().forward(x)[0]


def test_it_is_looked_at_in_evaluation_mode() -> None:
    cnn, width = without_classifier(MoreInTraining(), SIZE)
    assert width == 3
    assert cnn.training


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (lambda: zoo.build("torchvision:squeezenet1_1", 10), "SqueezeNet has no features to take"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4), nn.ReLU()), "Sequential has no features"),
        (TwoOutputs, "TwoOutputs has no features"),
        (lambda: nn.Linear(SIZE, 3), "Linear has no features"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), "does not take images of 32 pixels"),
    ],
)
def test_networks_without_features_are_refused(whole: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        without_classifier(whole(), SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet8", "vanilla-2-4", "wrn-10-1", "torchvision:resnet18"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_see_the_filters_of_the_cnn(name: str, method: str) -> None:
    whole = zoo.build(name, 10, image_size=SIZE)
    cnn, features = without_classifier(whole, SIZE)
    alone, inside = fs.why_not(whole, method), fs.why_not(DeeperLSTM(cnn, features, WORDS, ANSWERS), method)
    alone.pop("fc", None)
    of_cnn = {layer.removeprefix("cnn."): why for layer, why in inside.items() if layer.startswith("cnn.")}
    assert of_cnn == alone


def test_torch_fx_traces_the_whole_network() -> None:
    net = network()
    assert trace(net) is not None
    graph = fs.channel_graph(net)
    assert graph.reasons == {}
    assert all(name.startswith("cnn.") for name in graph.convolutions)


@pytest.mark.parametrize("text", CHANGES)
def test_methods_train_it(text: str) -> None:
    training = fs.compose(text)
    model = training.prepare(network())
    optimizer = torch.optim.SGD(training.param_groups(model, weight_decay=1e-4), lr=0.01, momentum=0.9)
    training.attach(model, optimizer, epochs=9, seed=0)
    inputs, labels = batch(), torch.tensor([0, 1, 2, 3])
    events = []
    for _ in range(9):
        loss = nn.functional.cross_entropy(model(*inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        training.end_batch()
        events.append(training.end_epoch())
    deployed = training.finish().eval()
    assert deployed(*inputs).isfinite().all()
    assert ("pruned" in events) == (text in ("repr", "prune"))


def test_it_is_copied_pickled_and_loaded() -> None:
    net, inputs = network().eval(), batch()
    expected = net(*inputs)
    assert torch.equal(copy.deepcopy(net)(*inputs), expected)
    assert torch.equal(pickle.loads(pickle.dumps(net))(*inputs), expected)
    other = network().eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(*inputs), expected)
    assert all(isinstance(value, Tensor) for value in net.state_dict().values())


def test_it_is_deterministic_and_draws_from_torchs_generator_alone() -> None:
    net, inputs = network(), batch()
    state = torch.get_rng_state()
    one = net(*inputs)
    torch.set_rng_state(state)
    assert torch.equal(net(*inputs), one)


def test_lower_precision_and_channels_last() -> None:
    net, (images, tokens, lengths) = network(), batch()
    net.eval()
    expected = net(images, tokens, lengths)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    found = last(images.to(memory_format=torch.channels_last), tokens, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images, tokens, lengths)
        logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.05)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())


def test_it_is_exported_for_any_batch() -> None:
    net, inputs = network().eval(), batch()
    shapes = {name: {0: torch.export.Dim.DYNAMIC} for name in ("images", "tokens", "lengths")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, tuple(one[:2] for one in inputs), dynamic_shapes=shapes).module()
    for count in (4, 1):
        some = tuple(one[:count] for one in inputs)
        torch.testing.assert_close(program(*some), net(*some))
