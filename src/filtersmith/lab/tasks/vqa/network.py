"""The deeper LSTM of VQA v1: a question's and an image's features, multiplied element by element, and an MLP.

Question: word vectors with tanh, LSTM layers, the last hidden and cell states of all of them, linear, tanh. Image:
features of a CNN, of length 1, linear, tanh. Product; dropout, linear, tanh, dropout, linear over the answers.

Source: Antol et al., *VQA: Visual Question Answering*, ICCV 2015, https://arxiv.org/abs/1505.00468, "deeper LSTM Q +
norm I"; code of Lu et al., https://github.com/GT-Vision-Lab/VQA_LSTM_CNN. That code has further dropouts (of words,
between the layers of the LSTM, in front of the two linear layers that are multiplied) and no hidden layer behind the
product; here is what the paper's text says.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.common.options import below_one, whole_number
from filtersmith.common.snapshot import snapshot
from filtersmith.common.words import in_words
from filtersmith.lab.tasks.vqa.records import PADDING

PAPER = {"embedding": 300, "hidden": 512, "layers": 2, "common": 1024, "mlp": 1000, "dropout": 0.5}
"""Options of `DeeperLSTM` as in the paper; the defaults are smaller, for two cores."""


@fx.wrap  # a single call to torch.fx: how many words there are it could not tell, and would trace nothing
def last_states(words: Tensor, lengths: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The hidden and cell states of all layers behind each question's last word, layer by layer.

    Behind its last word a question's states stay. ``pack_padded_sequence`` would do the same, but can't be exported,
    refuses a question without words and a batch without questions, and waits for the device.

    Args:
        words: (n, longest, embedding).
        lengths: int64 (n,).
        weights: four of each layer, as ``torch.lstm_cell`` takes them.

    Returns:
        (n, layers * 2 * hidden).
    """
    states = []
    sequence = list(words.unbind(1))
    going = [(lengths > place)[:, None] for place in range(len(sequence))]
    for first in range(0, len(weights), 4):
        layer = weights[first : first + 4]
        hidden = cell = words.new_zeros(words.shape[0], layer[1].shape[1])
        outputs = []
        for inputs, on in zip(sequence, going, strict=True):
            new_hidden, new_cell = torch.lstm_cell(inputs, [hidden, cell], *layer)
            hidden, cell = torch.where(on, new_hidden, hidden), torch.where(on, new_cell, cell)
            outputs.append(hidden)
        sequence = outputs
        states += [hidden, cell]
    return torch.cat(states, 1)


class DeeperLSTM(nn.Module):
    """Answers questions about images; ``forward(images, tokens, lengths)`` gives logits (n, answers).

    ``images`` are pictures (n, 3, h, w) where there is a ``cnn``, which is then trained with the rest; else features
    (n, features). ``tokens`` int64 (n, any width), ``lengths`` int64 (n,).

    Args:
        cnn: A network that gives features (n, features), as `without_classifier` makes it; None: they are given.
        features: How many there are of an image.
        words: Tokens that there are, `VqaData.vocabulary`.
        answers: To choose from.
        embedding: Numbers of a word's vector.
        hidden: Units of each layer of the LSTM.
        layers: Of the LSTM.
        common: Numbers of the question's and the image's vector, which are multiplied.
        mlp: Units of the hidden layer behind the product.
        dropout: In front of both linear layers behind the product.

    Raises:
        ValueError: a number that is none of these.

    Source: see the module; ``DeeperLSTM(..., **PAPER)`` has the paper's sizes.
    """

    def __init__(
        self,
        cnn: nn.Module | None,
        features: int,
        words: int,
        answers: int,
        *,
        embedding: int = 64,
        hidden: int = 128,
        layers: int = 2,
        common: int = 256,
        mlp: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        sizes = {"features": features, "words": words, "answers": answers, "embedding": embedding, "hidden": hidden}
        for option, value in (sizes | {"layers": layers, "common": common, "mlp": mlp}).items():
            whole_number(option, value, 1)
        below_one("dropout", dropout)
        self.cnn: nn.Module = nn.Identity() if cnn is None else cnn
        self.given = False
        """Whether ``images`` are features that the CNN has given before, so that it is not called."""
        self.embedding: nn.Embedding = nn.Embedding(words, embedding, padding_idx=PADDING)
        self.lstm: nn.ModuleList = nn.ModuleList(
            nn.LSTMCell(hidden if layer else embedding, hidden) for layer in range(layers)
        )
        self.question: nn.Linear = nn.Linear(2 * layers * hidden, common)
        self.image: nn.Linear = nn.Linear(features, common)
        self.mlp: nn.Sequential = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(common, mlp), nn.Tanh(), nn.Dropout(dropout), nn.Linear(mlp, answers)
        )

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (n, answers)."""
        words = torch.tanh(self.embedding(tokens))
        question = torch.tanh(self.question(last_states(words, lengths, self._weights())))
        image = torch.tanh(self.image(F.normalize(images if self.given else self.cnn(images))))
        logits: Tensor = self.mlp(question * image)
        return logits

    def _weights(self) -> list[Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(cell, name) for cell in self.lstm for name in names]


def without_classifier(network: nn.Module, image_size: int, *, channels: int = 3) -> tuple[nn.Module, int]:
    """A copy of a classification network that gives the features in front of its last linear layer.

    That layer, found by a call, becomes an ``nn.Identity``; all other names stay, so that the network's weights fit.
    In ResNets and their like the features are the averages over all positions, in VGG of torchvision those of
    the second linear layer, which the paper takes.

    Args:
        network: of the zoo, of torchvision or timm, or a user's: images (n, channels, h, w) to logits (n, classes).
        image_size: height = width of an image that it takes.
        channels: of an image.

    Returns:
        The copy, and how many features there are.

    Raises:
        ValueError: its outputs are not those of a linear layer, or not (n, features) without it.
    """
    features = copy.deepcopy(network)
    name, width = _last_linear(features, image_size, channels)
    features.set_submodule(name, nn.Identity())
    shape = tuple(_call(features, image_size, channels).shape)
    if shape != (2, width):
        raise ValueError(
            f"{type(network).__name__} must give {width} features of each image, got {shape} for 2 images"
        )
    return features, width


def _last_linear(network: nn.Module, image_size: int, channels: int) -> tuple[str, int]:
    """The name of the linear layer that makes the outputs, and its inputs."""
    made: list[tuple[str, nn.Linear, Any]] = []

    def keep(name: str) -> Any:
        return lambda module, inputs, output: made.append((name, module, output))

    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_hook(keep(name)) for name, module in linear]
    try:
        outputs = _call(network, image_size, channels)
    finally:
        for hook in hooks:
            hook.remove()
    found = [(name, module) for name, module, output in made if output is outputs]
    if len(found) != 1 or not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise ValueError(
            f"{type(network).__name__} has no features to take: its outputs must be those of a last linear layer"
        )
    name, layer = found[0]
    return name, layer.in_features


def _call(network: nn.Module, image_size: int, channels: int) -> Any:
    """Its outputs for two images in evaluation mode; the network and the random numbers stay as they are."""
    restore = snapshot(network)
    example = next(network.parameters(), torch.zeros(()))
    images = torch.zeros(2, channels, image_size, image_size, device=example.device, dtype=example.dtype)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return network.eval()(images)
    except Exception as error:
        raise ValueError(
            f"{type(network).__name__} does not take images of {image_size} pixels: {in_words(error)[:150]}"
        ) from error
    finally:
        restore()
