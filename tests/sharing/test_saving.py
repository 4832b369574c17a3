"""Networks with shared kernels come back from what libraries save of them, tied again or free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

import filtersmith as fs

SHARED = ["body.0.weight", "body.1.weight", "body.2.weight"]


class Plain(nn.Module):
    """(batch, 3, 8, 8) -> (batch, 2); three convolutions whose kernels fit each other."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Pretrained(Plain):
    """Saves, loads and ties as transformers does: no shared memory, a Parameter for each name, declared ties last."""

    def __init__(self) -> None:
        super().__init__()
        self.all_tied_weights_keys: dict[str, str] = {}

    def save_pretrained(self, folder: Path) -> None:
        save_file(self.state_dict(), folder / "model")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Pretrained:
        model = cls()
        for key, value in load_file(folder / "model").items():
            setattr(model.get_submodule(key.rpartition(".")[0]), key.rpartition(".")[2], nn.Parameter(value))
        for name, source in model.all_tied_weights_keys.items():
            model.get_submodule(name.rpartition(".")[0]).weight = model.get_parameter(source)
        return model


class Sharing(Pretrained):
    """A class that shares kernels when it is made."""

    def __init__(self) -> None:
        super().__init__()
        fs.share_kernels(self)


class Larger(nn.Module):
    """Holds one that is saved by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Pretrained()


def made(cls: type[Any], share: Callable[[Any], nn.Module] | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = cls()
    if share is not None:
        fs.share_kernels(share(model))
    return model


def itself(model: nn.Module) -> nn.Module:
    return model


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found = model.eval()(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    return found if isinstance(found, torch.Tensor) else found.logits


def assert_loaded(model: nn.Module, loaded: nn.Module) -> None:
    """As its class made it, and with its kernels shared again."""
    assert torch.equal(output(loaded), output(model))
    fs.share_kernels(loaded)
    assert torch.equal(output(loaded), output(model))
    assert fs.check_ties(loaded) == []


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: made(Pretrained, itself), id="tied as a whole"),
        pytest.param(lambda: made(Pretrained, lambda model: model.body), id="a part is tied"),
        pytest.param(lambda: made(Larger, itself).inner, id="the whole around it is tied"),
        pytest.param(lambda: fs.collapse(made(Pretrained, itself)), id="collapsed"),
        pytest.param(lambda: made(Sharing), id="by its class"),
    ],
)
def test_save_pretrained_writes_for_a_class_whose_kernels_are_free(model: Callable[[], Any], tmp_path: Path) -> None:
    tied = model()
    tied.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model").keys() == made(Plain).state_dict().keys()
    assert_loaded(tied, Pretrained.from_pretrained(tmp_path))


def test_a_class_that_shares_has_its_ties_again(tmp_path: Path) -> None:
    model = made(Sharing)
    model.save_pretrained(tmp_path)
    loaded = Sharing.from_pretrained(tmp_path)
    assert fs.check_ties(loaded) == []
    assert torch.equal(output(loaded), output(model))


def test_declared_ties_follow_names_and_groups_and_leave_others_alone() -> None:
    model = made(Pretrained)
    model.all_tied_weights_keys = {"head.weight": "embedding.weight"}
    fs.share_kernels(model, [["body.0", "body.1"]])
    fs.share_kernels(model, [["body.1", "body.2"]])
    own = {"head.weight": "embedding.weight"}
    assert model.all_tied_weights_keys == own | dict.fromkeys(SHARED[1:], SHARED[0])
    fs.add_regulators(model)
    assert model.all_tied_weights_keys == own | {
        "body.1.weight": "body.0.weight",
        "body.2.inner.weight": "body.0.weight",
    }
    model.body[1] = nn.Identity()
    fs.share_kernels(model, [["body.0", "body.2.inner"]])
    assert model.all_tied_weights_keys == own | {"body.2.inner.weight": "body.0.weight"}
    assert not hasattr(made(Plain, itself), "all_tied_weights_keys")


@pytest.mark.parametrize("model", [lambda: made(Pretrained, itself), lambda: nn.Sequential(made(Plain, itself))])
def test_kernels_apart_are_those_of_the_network_and_load_from_a_file_that_has_them_once(
    model: Callable[[], nn.Module], tmp_path: Path
) -> None:
    tied = model()
    state, parameters = tied.state_dict(), tied.state_dict(keep_vars=True)
    keys = [key for key in state if key.endswith(tuple(SHARED))]
    assert len({state[key].data_ptr() for key in keys}) == 3
    assert all(torch.equal(state[key], parameters[key]) for key in state)
    assert len({id(parameters[key]) for key in keys}) == 1
    assert state[keys[0]].data_ptr() == parameters[keys[0]].data_ptr(), "written into, it is the network's"

    once = {key: value for key, value in state.items() if key not in keys[:2]}
    save_file(once, tmp_path / "once")
    torch.manual_seed(1)
    for load in (lambda other: load_model(other, tmp_path / "once"), lambda other: other.load_state_dict(once)):
        other = model()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        load(other)
        assert torch.equal(output(other), output(tied))
        assert fs.check_ties(other) == []


def test_a_network_that_is_saved_by_itself_names_a_kernel_once(tmp_path: Path) -> None:
    model = made(Plain, itself)
    save_model(model, str(tmp_path / "once"))
    assert len(load_file(tmp_path / "once")) == len(model.state_dict()) - 2
    with pytest.raises(RuntimeError, match="save_model"):
        save_file(model.state_dict(), tmp_path / "refused")


@pytest.mark.parametrize("cls", [Plain, Pretrained])
def test_torch_distributed_checkpoint(cls: type[nn.Module]) -> None:
    """It fills in what a state lacks with the network's own parameters, which hold the old kernel."""
    model, other = made(cls, itself), made(cls, itself, seed=1)
    state = get_model_state_dict(model)
    once = {key: value for key, value in state.items() if key not in SHARED[:2]}
    for given in (state, once):
        other = made(cls, itself, seed=1)
        set_model_state_dict(other, dict(given), options=StateDictOptions(full_state_dict=True, strict=False))
        assert torch.equal(output(other), output(model))
        assert fs.check_ties(other) == []


# --- libraries -------------------------------------------------------------------------------------------


def test_hub_mixin(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    cls = type("Mixed", (Plain, hub.PyTorchModelHubMixin), {})
    for number, share in enumerate((itself, lambda model: model.body)):
        model = made(cls, share)
        model.save_pretrained(tmp_path / str(number))
        assert_loaded(model, cls.from_pretrained(tmp_path / str(number)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("safe", [True, False])
def test_accelerate(safe: bool, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(made(Plain, itself))
    expected = output(model)
    accelerator.save_model(model, tmp_path / "model", safe_serialization=safe)
    for device_map in (None, {"": "cpu"}):
        other = made(Plain, itself, seed=1)
        accelerate.load_checkpoint_in_model(other, tmp_path / "model", device_map=device_map)
        assert torch.equal(output(other), expected)
        assert fs.check_ties(other) == []
    accelerator.save_state(tmp_path / "state", safe_serialization=safe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    accelerator.load_state(tmp_path / "state")
    assert torch.equal(output(model), expected)
    assert fs.check_ties(model) == []


def test_offloaded_kernels_are_not_taken_for_untied() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = made(Plain, itself)
    expected = output(model)
    accelerate.cpu_offload(model, execution_device="cpu")
    assert torch.equal(output(model), expected)


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6], depths=[2, 2], layer_type="basic", num_labels=3
    )
    cls = transformers.ResNetForImageClassification

    class Tied(cls):  # type: ignore[misc,valid-type]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            fs.share_kernels(self)

    for number, share in enumerate((itself, lambda model: model.resnet, lambda model: model.resnet.encoder)):
        model = made(lambda: cls(config), share)  # type: ignore[arg-type]
        model.save_pretrained(tmp_path / str(number))
        assert_loaded(model, cls.from_pretrained(tmp_path / str(number)))
        again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / str(number))
        assert torch.equal(output(again), output(model))
    tied = Tied.from_pretrained(tmp_path / "0")
    assert fs.check_ties(tied) == []
    assert torch.equal(output(tied), output(again))


def test_an_expanded_network_of_transformers_is_saved_collapsed(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    model = transformers.ResNetForImageClassification(config)
    with pytest.raises(ValueError, match=r"it is called by code that torch\.fx cannot trace"):
        fs.expand(model, fs.ACNet())  # blocks stand in the place of layers, whose calls have to be known
    fs.expand(model, fs.KFLO(depth=2, width=2))
    model.train()(torch.randn(2, 3, 8, 8))
    deployed = fs.collapse(model)
    deployed.save_pretrained(tmp_path)
    loaded = type(deployed).from_pretrained(tmp_path)
    assert torch.equal(output(loaded), output(deployed))
    torch.testing.assert_close(output(loaded), output(model))


def test_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self, tied: bool = True) -> None:
            super().__init__()
            self.network = made(Plain, itself if tied else None, seed=int(tied))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self(batch[0]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    images = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(4, 3, 8, 8)), 2)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, default_root_dir=tmp_path, **quiet)
    model = Module()
    trainer.fit(model, images)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    for tied in (True, False):
        loaded = Module.load_from_checkpoint(tmp_path / "last.ckpt", tied=tied, weights_only=False)
        assert torch.equal(output(loaded), output(model))
        assert fs.check_ties(loaded) == []
