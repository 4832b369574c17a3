"""Activation maximisation: the image that a filter answers to most.

Gradient ascent from noise (Erhan et al., *Visualizing higher-layer features of a deep network*, 2009), with the
weights frozen and the network in evaluation mode. The search is over the image's frequencies, the low ones the
fastest, and over colours that are independent in natural images; before each step the image is shifted at random
(Olah et al., *Feature Visualization*, 2017, https://distill.pub/2017/feature-visualization). At each step

    image <- Adam along  pull - total_variation * d(sum of |differences of neighbouring pixels|) / d(image)

where ``pull``, the gradient of the filter's mean activation, is scaled to a mean square of 1 over the image. So the
same penalty suits all layers: with 0.1 patterns are smooth and whole, with 0 noisy, with 1 most are gone.

Not every maximum is reached: patterns as natural images have them are found first. Of linear layers, whose maximum is
known, smooth grey patterns reach 95% of the way from the minimum to the maximum in 200 steps without shifts, patterns
of random pixels 75% to 90%. Where the activation does not depend on the image, the image stays the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from filtersmith.common.modules import memory_format, plain_name
from filtersmith.common.options import above_zero, bad_option, first_line, number, seed_number, whole_number
from filtersmith.measure.maps import among, indices
from filtersmith.measure.passes import as_taken
from filtersmith.measure.taps import Run, Where, tapped

COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""The square root of the covariance of red, green and blue in natural images (Olah et al., code of *Lucid*)."""
NOISE = 0.01
"""Standard deviation of the frequencies of the image that the search starts from."""


def maximise_activation(
    model: nn.Module,
    layer: str,
    filter: int | Sequence[int],
    *,
    size: int | tuple[int, int],
    channels: int = 3,
    steps: int = 200,
    lr: float = 0.05,
    jitter: int = 4,
    total_variation: float = 0.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    where: Where = "conv",
    call: int = 0,
) -> Tensor:
    """The image in [0, 1] for which the mean activation of a filter is high: of each filter by itself.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
        >>> fs.measure.maximise_activation(model, "2", [0, 5], size=16, steps=2).shape
        torch.Size([2, 3, 16, 16])

    Args:
        model: the network, which is left as it was; the image takes its device, type and memory format.
        layer: the name of a convolution, a linear layer or another module that gives channels.
        filter: the number of one of these channels, or several.
        size: of the image in pixels, a side or (height, width), which the network has to take.
        channels: of the image; 3 (default) are red, green and blue.
        steps, lr: of Adam: 200 and 0.05. 0 steps give the noise that the search starts from.
        jitter: pixels by which the image is shifted at most each way, around its edges; 4.
        total_variation: the weight of the penalty on differences of neighbouring pixels, 0.1; 0: none.
        mean, std: of the network's images, for each channel; default: they are in [0, 1] as they are.
        seed: of the noise and the shifts, which are the same for each filter.
        where: ``"conv"`` (default): what the layer gives; ``"after-bn"``: behind the norm that reads it;
            ``"after-relu"``: also behind the activation function there. What a convolution of the image itself gives
            is linear in it, and highest for almost one colour: ``"after-relu"`` shows its pattern.
        call: of a layer that is called several times for an image, the number of the call, from 0.

    Returns:
        ``(channels, H, W)``, or ``(filters, channels, H, W)`` of several; float32, on the CPU; the same each time on
        one machine. A filter that the noise does not switch on at all behind a ReLU gets little more than the noise.

    Raises:
        ValueError: an option out of range, an unknown layer or filter, a layer that is not called so often or does
            not depend on the image, an image that the network cannot take, an activation that is not finite, a
            network that was made in ``torch.inference_mode``.

    Source: *Deep Anchored Convolutional Neural Networks*, Fig. 7, https://arxiv.org/abs/1904.09764, and see above
    """
    filters = [whole_number("filter", filter, 0)] if isinstance(filter, Integral) else indices("filter", filter)
    shape = len(filters), whole_number("channels", channels, 1), *_sides(size)
    ascent = _Ascent(layer, filters, whole_number("call", call, 0), _normalise(shape[1], mean, std))
    search = _Search(steps, lr, jitter, total_variation, seed)
    with tapped(model, [layer], where, ascent.see) as run, torch.enable_grad():
        found = search(run, ascent, shape)
    return found[0] if isinstance(filter, Integral) else found


@dataclass(frozen=True)
class _Search:
    """Adam over the frequencies of images."""

    steps: int
    lr: float
    jitter: int
    total_variation: float
    seed: int

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 0)
        above_zero("lr", self.lr)
        whole_number("jitter", self.jitter, 0)
        number("total_variation", self.total_variation, lambda x: 0 <= x < float("inf"), "a number from 0")
        seed_number("seed", self.seed)

    def __call__(self, run: Run, ascent: _Ascent, shape: tuple[int, int, int, int]) -> Tensor:
        """Images ``(filters, channels, H, W)``."""
        _refuse_inference(run.network)
        for parameter in run.network.parameters():
            parameter.requires_grad_(False)  # `tapped` puts it back
        generator = torch.Generator("cpu").manual_seed(self.seed)
        spectrum = _spectrum(shape, generator).to(run.device).requires_grad_()
        adam = torch.optim.Adam([spectrum], self.lr)
        for _ in range(self.steps):
            image = _image(spectrum, shape)
            by = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=generator, device="cpu").tolist()
            pull = ascent(run, image.detach().roll(by, (2, 3))).roll([-n for n in by], (2, 3))
            loss = self.total_variation * _variation(image) - (pull * image).sum()
            (spectrum.grad,) = torch.autograd.grad(loss, spectrum)
            adam.step()
        return _image(spectrum.detach(), shape).cpu()


class _Reached(BaseException):
    """Ends a run of the network where the rest of it is not needed."""


class _Ascent:
    """The direction in which filters' activations grow."""

    def __init__(self, layer: str, filters: list[int], call: int, normalise: Callable[[Tensor], Tensor]) -> None:
        self._layer, self._filters, self._normalise = layer, filters, normalise
        self._call, self._calls = call, 0
        self._activation: Tensor | None = None

    def see(self, name: str, values: Tensor) -> None:
        self._calls += 1
        if self._calls <= self._call:
            return
        among("filter", self._filters, values.shape[1], name)
        if len(values) != len(self._filters):
            raise bad_option(f"the output of layer {name!r}", tuple(values.shape), "one for each image")
        each = values[range(len(values)), self._filters].float()
        self._activation = each.flatten(1).sum(1) if each.ndim > 1 else each
        raise _Reached

    def __call__(self, run: Run, image: Tensor) -> Tensor:
        """For each pixel, its pull; of mean square 1 over an image, or 0 where nothing changes the activation."""
        self._calls, self._activation = 0, None
        image.requires_grad_()
        with suppress(_Reached):
            run(_laid_out(run.network, as_taken(run.network, self._normalise(image))))
        if self._activation is None:
            raise bad_option("call", self._call, f"below {self._calls}, the number of calls of layer {self._layer!r}")
        pull = self._gradient(self._activation, image)
        largest = pull.abs().amax((1, 2, 3), keepdim=True)
        pull = pull / torch.where(largest > 0, largest, 1)  # whose squares neither vanish nor overflow
        size = pull.square().mean((1, 2, 3), keepdim=True).sqrt()
        return pull / torch.where(size > 0, size, 1)

    def _gradient(self, activation: Tensor, image: Tensor) -> Tensor:
        try:
            (found,) = torch.autograd.grad(activation.sum(), image, materialize_grads=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what the layer gives is no function of the image, or is lost in place
            raise ValueError(
                f"layer {self._layer!r} gives nothing that can be differentiated by the image: {first_line(error)}"
            ) from error
        for what, values in (("activation", activation.detach()), ("gradient", found.abs().flatten(1).amax(1))):
            for one, value in zip(self._filters, values.tolist(), strict=True):
                if not math.isfinite(value):
                    raise ValueError(f"layer {self._layer!r}: the {what} of filter {one} is {value}")
        return found


def _refuse_inference(network: nn.Module) -> None:
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_inference():
            raise ValueError(
                f"{plain_name(name)!r} was made in torch.inference_mode, whose tensors take no part in gradients: "
                "make the network outside of it, or load its state_dict into one made there"
            )


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = size if isinstance(size, (tuple, list)) and len(size) == 2 else (size, size)
    return whole_number("size", height, 1), whole_number("size", width, 1)


def _normalise(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Tensor], Tensor]:
    """What the network's images are made by from those in [0, 1]."""
    low = [0.0] * channels if mean is None else _each("mean", mean, channels, "finite")
    unit = [1.0] * channels if std is None else _each("std", std, channels, "above 0")

    def normalised(image: Tensor) -> Tensor:
        return (image - image.new_tensor(low).view(-1, 1, 1)) / image.new_tensor(unit).view(-1, 1, 1)

    return normalised


def _each(option: str, values: Sequence[float], channels: int, kind: str) -> list[float]:
    allowed = f"one number for each of the {channels} channels, {kind}"
    given = values.tolist() if isinstance(values, Tensor) else values
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != channels:
        raise bad_option(option, values, allowed)
    least = 0.0 if kind == "above 0" else float("-inf")
    return [number(option, one, lambda x: least < x < float("inf"), allowed) for one in given]


def _spectrum(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """The frequencies of noise, the same for each image: ``(images, channels, H, W // 2 + 1, 2)``."""
    images, channels, height, width = shape
    one = 1, channels, height, width // 2 + 1, 2
    noise = torch.randn(one, generator=generator, dtype=torch.float32, device="cpu")
    return (NOISE * noise).repeat(images, 1, 1, 1, 1)


def _image(spectrum: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Images in [0, 1] of frequencies, each of which counts the less the higher it is."""
    (height, width), dtype, device = shape[2:], spectrum.dtype, spectrum.device
    rows = torch.fft.fftfreq(height, dtype=dtype, device=device)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=dtype, device=device)
    scaled = torch.view_as_complex(spectrum) / torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    image: Tensor = torch.fft.irfft2(scaled, s=(height, width), norm="ortho") / 4
    if shape[1] == 3:
        colours = torch.tensor(COLOURS, dtype=dtype, device=device)
        colours = colours / torch.linalg.vector_norm(colours, dim=0).max()
        image = (colours[..., None, None] * image[:, None]).sum(2)  # no matrix product, which autocast would round
    return image.sigmoid()


def _variation(image: Tensor) -> Tensor:
    return image.diff(dim=2).abs().sum() + image.diff(dim=3).abs().sum()


def _laid_out(network: nn.Module, image: Tensor) -> Tensor:
    """An image that lies in memory as the network's first kernel does."""
    kernel = next((p for p in network.parameters() if p.ndim == 4), None)
    return image if kernel is None else image.contiguous(memory_format=memory_format(kernel))
