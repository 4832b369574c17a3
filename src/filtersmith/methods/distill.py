"""KD: knowledge distillation: the network learns from the labels and from another network's outputs.

**Paper.** *Distilling the Knowledge in a Neural Network*, Hinton, Vinyals and Dean, 2015, Secs. 2 and 2.1,
https://arxiv.org/abs/1503.02531; a comparison of RePr (Table 2), which also distils into a network that it prunes.
*Born-Again Neural Networks*, Furlanello et al., ICML 2018, https://arxiv.org/abs/1805.04770 (RePr, Table 3).

**What it does.** Turns the loss of a batch into a mean of two, with z the network's and z_t the teacher's logits:

    (1 - weight) * CE(labels, z) + weight * T^2 * KL(softmax(z_t / T) || softmax(z / T))     T: the temperature

T^2 keeps the size of the second gradient when T changes. The teacher is frozen: it runs in evaluation mode, without
gradients, and no optimizer has it.

**When to use it.** Where a better network for the same classes is at hand: a larger one, an ensemble, or the same
network trained before (born-again). In the loop the loss stays the cross entropy, and ``penalty`` turns it::

    training = fs.compose([fs.KD(teacher), "wau"])  # in any loop
    training = fs.compose("kd(teacher=large)+wau", resolve={"large": teacher}.get)  # the same as a text
    loss = F.cross_entropy(outputs, labels) + training.penalty(images, outputs, labels)

In the laboratory a name stands for the teacher, ``kd(teacher='runs/teacher')``: the folder of a finished run, a file
of weights, ``NETWORK@FILE``, or ``timm:NAME`` with its pretrained weights. In a comparison ``kd`` alone learns from a
network that is trained before as the baseline is, with another seed; ``filtersmith compare --generations 3`` trains
born-again networks.

**When not to use it.** With a loss that is not the plain cross entropy (label smoothing, class weights): ``penalty``
takes away ``weight`` of the plain one. Where time is short: each step also runs the teacher. With a teacher for
other classes: another number of them is refused, and in the laboratory also the run of another data set.

**Options.** ``teacher``: a module, which takes the network's images and gives its logits. ``temperature`` 4 and
``weight`` 0.9 are ours, for RePr states none; ``weight=0`` switches it off exactly. Born-again networks take
``temperature=1`` and ``weight=0.5``.

**Where paper, authors' code and we differ.** RePr states neither its teacher nor T and weight. Born-again networks
add the two cross entropies; ``weight=0.5`` takes their mean, half of that, so that the learning rate and the decay
mean what they mean in plain training. Hinton et al. leave the weights open.

**Compatibility.** Every optimizer, gradient scalers and autocast (the term is computed in float32), DDP,
``torch.compile``, every other method. In the phases of RePr and DSD the teacher stays the same. Logits are
(batch, classes), or (batch, classes, ...) with a label for each position; labels are class numbers or probabilities.
A teacher that shares weights with the network is refused; a copy that is made of it while it teaches is frozen. The
deployed network does not change.

**Measured results.** On digits with 200 images, C^3(32), 20 seeds, with a teacher that is trained the same way, the
difference is +0.21 [−0.05, +0.47] points (95% interval), with KFLO +0.21 [−0.14, +0.56] and with RePr +0.24 [−0.15,
+0.62]: neither gains more together than alone. All tables: ``results/README.md``. ``filtersmith reproduce
repr/table2`` measures it as RePr has it, 2.7 and 9.3 points with a larger teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from filtersmith.common.distributed import local
from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import (
    Check,
    bad_option,
    check_options,
    check_state,
    first_line,
    number,
)
from filtersmith.common.precision import without_autocast


def kl_term(outputs: Tensor, targets: Tensor, temperature: float, kept: Tensor | None = None) -> Tensor:
    """``T^2 * KL(softmax(targets / T) || softmax(outputs / T))``, the mean over images and positions.

    A class that the teacher excludes, with a logit of minus infinity, adds nothing. Above a temperature of 100 it is
    computed in float64: float32 would lose the small differences that T^2 magnifies.

    Example:
        >>> print(f"{kl_term(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0).item():.4f}")
        0.3278

    Args:
        outputs: the network's logits, (batch, classes) or (batch, classes, ...).
        targets: the teacher's, of the same shape.
        temperature: T, above 0.
        kept: which images and positions count, (batch) or (batch, ...); all by default.

    Returns:
        A scalar, at least 0, and 0 where the two are equal.

    Source: Hinton et al., Sec. 2, https://arxiv.org/abs/1503.02531
    """
    if kept is not None:  # zeros in both: what stands there may be anything
        outputs, targets = (one.masked_fill(~kept.unsqueeze(1), 0) for one in (outputs, targets))
    dtype = torch.float64 if temperature > 100 and outputs.device.type != "mps" else outputs.dtype
    ours = F.log_softmax(outputs.to(dtype) / temperature, dim=1)
    theirs = F.log_softmax(targets.to(dtype) / temperature, dim=1)
    excluded = theirs == -torch.inf  # 0 * log 0 is 0
    ours, theirs = ours.masked_fill(excluded, 0), theirs.masked_fill(excluded, 0)
    of_each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    mean = of_each.mean() if kept is None else of_each.sum() / kept.sum()
    return (temperature**2 * mean).to(outputs.dtype)


def a_teacher(option: str, value: object) -> object:
    """``value`` if it is a network; ``ValueError`` otherwise."""
    if not isinstance(value, nn.Module):
        raise bad_option(option, value, "a torch.nn.Module that gives logits for the same images")
    return value


class KD:
    """Learn from a teacher's outputs as well as from the labels.

    ``penalty`` is what has to be added to the cross entropy of a batch to make it the mean of the two losses.

    Example:
        >>> import torch, filtersmith as fs
        >>> teacher, student = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        >>> images, labels = torch.randn(8, 4), torch.arange(8) % 3
        >>> kd = fs.KD(teacher, temperature=4, weight=0.9)
        >>> outputs = student(images)
        >>> loss = torch.nn.functional.cross_entropy(outputs, labels) + kd.penalty(images, outputs, labels)
        >>> loss.backward()
        >>> kd
        KD(Linear, temperature=4.0, weight=0.9)

    Args:
        teacher: a network that takes the same images and gives logits for the same classes, of the shape of the
            student's. While it is attached, it is frozen and in evaluation mode; it is moved to the images' device.
        temperature: T, in [0.001, 1e6]; 4 by default.
        weight: share of the teacher's term, in [0, 1]; 0.9 by default. 0 is plain training, exactly.

    Raises:
        ValueError: an option out of range; when it is attached, a teacher that shares weights with the network; in
            the first batch, one that cannot take the images or gives logits of another shape, and labels of no kind.

    Source: *Distilling the Knowledge in a Neural Network*, Sec. 2, https://arxiv.org/abs/1503.02531
    """

    checks: ClassVar[dict[str, Check]] = {
        "teacher": a_teacher,
        "temperature": lambda option, value: number(
            option, value, lambda x: 1e-3 <= x <= 1e6, "a number in [0.001, 1e6]"
        ),
        "weight": lambda option, value: number(option, value, lambda x: 0 <= x <= 1, "a number in [0, 1]"),
    }
    resolved: ClassVar[tuple[str, ...]] = ("teacher",)
    plain_loss = True

    def __init__(self, teacher: nn.Module, temperature: float = 4.0, weight: float = 0.9) -> None:
        options = check_options(self.checks, teacher=teacher, temperature=temperature, weight=weight)
        self.teacher: nn.Module = teacher
        self._name = type(unwrap(teacher)).__name__
        self.temperature: float = float(options["temperature"])
        self.weight: float = float(options["weight"])

    @staticmethod
    def why_not(model: nn.Module, **_: Any) -> dict[str, str]:
        """Nothing: every layer learns from both, for `filtersmith.why_not`."""
        return {}

    def attach(self, model: nn.Module) -> None:
        """Freeze the teacher; ``ValueError`` where it shares weights with the network, which changes nothing."""
        if shared := _memory(model) & _memory(self.teacher):
            names = [name for name, one in _tensors(self.teacher) if shared & _places(one)]
            raise bad_option("teacher", self._name, f"another network: it shares {names[0]} with the model")
        frozen = _FROZEN.setdefault(self.teacher, _Frozen())
        frozen.freeze(self.teacher, set(model.modules()))
        frozen.users.add(self)

    def detach(self) -> None:
        """The teacher's mode, and what of it may be trained, as they were before `attach`.

        A teacher that teaches elsewhere, too, stays frozen until that is over.
        """
        frozen = _FROZEN.get(self.teacher)
        if frozen is not None and self in frozen.users:
            frozen.users.discard(self)
            if not frozen.users:
                frozen.restore()
                del _FROZEN[self.teacher]

    def penalty(self, images: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        """What turns the cross entropy of a batch into the mean of both losses; for a weight of 0 a constant 0."""
        if self.weight == 0:
            return torch.zeros((), device=outputs.device)
        _check_batch(outputs, labels)
        targets = self._targets(images, outputs)
        with without_autocast(outputs):
            logits = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
            kept = None
            if not labels.is_floating_point():  # what the loop's own ignore_index leaves out is left out here, too
                kept = (labels >= 0) & (labels < logits.shape[1])
                labels = labels.masked_fill(~kept, -100)
            term = kl_term(logits, targets.to(logits.dtype), self.temperature, kept)
            return self.weight * (term - F.cross_entropy(logits, labels))

    def _targets(self, images: Tensor, outputs: Tensor) -> Tensor:
        """The teacher's logits; its mode is as it was."""
        modes = [(module, module.training) for module in self.teacher.modules()]
        try:
            with torch.no_grad():
                targets = self.teacher.eval().to(outputs.device)(images)
                targets = getattr(targets, "logits", targets)  # of a model of transformers
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a network's own code raises
            what = f"images of {tuple(images.shape)}" if isinstance(images, Tensor) else "these images"
            raise ValueError(f"teacher {self._name} must take {what}: {first_line(error)}") from error
        finally:
            for module, training in modes:
                module.training = training
        if not isinstance(targets, Tensor) or targets.shape != outputs.shape:
            found = tuple(targets.shape) if isinstance(targets, Tensor) else f"a {type(targets).__name__}"
            raise ValueError(
                f"teacher {self._name} must give logits of {tuple(outputs.shape)} as the network does, got {found}"
            )
        return targets

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes over training: the options and a digest of the teacher, for comparison."""
        teacher = digest(unwrap(self.teacher))
        return {"temperature": self.temperature, "weight": self.weight, "teacher": teacher}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """``ValueError`` if the state was saved with other options or another teacher."""
        check_state("KD", state, self.state_dict(), ("temperature", "weight", "teacher"))

    def __repr__(self) -> str:
        return f"KD({self._name}, temperature={self.temperature}, weight={self.weight})"


class _Frozen:
    """A teacher that is frozen, what it was before, and who teaches with it."""

    def __init__(self) -> None:
        self.users: WeakSet[KD] = WeakSet()
        # Weakly: what is kept under a teacher must not keep the teacher.
        self._training: WeakSet[nn.Module] = WeakSet()
        self._trained: list[ref[nn.Parameter]] = []

    def freeze(self, teacher: nn.Module, ours: set[nn.Module]) -> None:
        """Also once more, where somebody has thawed it; modules of the network, an activation, keep their mode."""
        training = [module for module in teacher.modules() if module.training]
        teacher.eval()
        for module in training:
            if module in ours:
                module.training = True
            else:
                self._training.add(module)
        for parameter in teacher.parameters():
            if parameter.requires_grad and not parameter.is_inference():  # those cannot be trained at all
                self._trained.append(ref(parameter))
                parameter.requires_grad_(False)

    def restore(self) -> None:
        for module in self._training:
            module.training = True
        for parameter in (found() for found in self._trained):
            if parameter is not None:
                parameter.requires_grad_(True)


_FROZEN: WeakKeyDictionary[nn.Module, _Frozen] = WeakKeyDictionary()
"""Teachers that are frozen; one may teach several networks, and not all trainings come to their end."""


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _memory(network: nn.Module) -> set[Any]:
    return {place for _, one in _tensors(network) for place in _places(one)}


def _places(tensor: Tensor) -> set[Any]:
    """What two tensors have in common that change together: themselves, or the memory that they lie in."""
    if is_lazy(tensor) or tensor.device.type == "meta" or tensor.layout is not torch.strided:
        return {id(tensor)}
    whole = local(tensor)
    memory = {(whole.device, whole.untyped_storage().data_ptr())} if whole.numel() else set()
    return {id(tensor), *memory}


def _check_batch(outputs: Any, labels: Any) -> None:
    if not isinstance(outputs, Tensor) or outputs.ndim < 2:
        raise bad_option("outputs", outputs, "logits (batch, classes) or (batch, classes, ...)")
    batch, classes, *positions = outputs.shape
    numbers = (batch, *positions)
    if isinstance(labels, Tensor) and labels.shape == (outputs.shape if labels.is_floating_point() else numbers):
        return
    allowed = f"class numbers {numbers} or probabilities {(batch, classes, *positions)}"
    found = f"{labels.dtype} of {tuple(labels.shape)}" if isinstance(labels, Tensor) else labels
    raise bad_option("labels", found, allowed)


def digest(network: nn.Module) -> str:
    """A SHA-256 of all parameters and buffers of a network, with their names, shapes and kinds."""
    found = sha256()
    for name, value in network.state_dict().items():
        found.update(plain_name(name).encode())
        if isinstance(value, Tensor):
            found.update(f"{tuple(value.shape)} {value.dtype}".encode())
            value = value.to_dense() if value.layout is not torch.strided else value
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
