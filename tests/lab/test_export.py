"""An exported network is the deployed one, read back by others; a wrong or partial file never gets its name."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from reference.running import StopAfter, assert_same, config, digits, manifest, run, weights
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save, save_model
from torch import Tensor, nn

import filtersmith
from filtersmith import cli, zoo
from filtersmith.lab import export as exporting
from filtersmith.lab import formats
from filtersmith.lab.compare import plan
from filtersmith.lab.data import channel_stats
from filtersmith.lab.deployed import load_network
from filtersmith.lab.export import export
from filtersmith.lab.recipe.config import CompareConfig, to_yaml
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.stopping import StopRequest
from filtersmith.methods.composition import compose
from filtersmith.zoo.vanilla import Vanilla

FORMATS = ["safetensors", "pt2", "onnx"]
MODEL = "vanilla-2-4"
OF_A_RUN = {".lock", "checkpoints", "config.yaml", "manifest.json", "metrics.jsonl", "model.safetensors"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("trained") / "run"
    run(config("wau", model=MODEL, epochs=1), out)
    return out


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read_alone(file: Path, images: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Outputs and metadata of a file, read as someone would who has the file alone."""
    described: dict[str, Any]
    if file.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        described = dict(session.get_modelmeta().custom_metadata_map)
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), described
    if file.suffix == ".pt2":
        extra = {"metadata.json": ""}
        program = torch.export.load(file, extra_files=extra).module()
        with torch.no_grad():
            return program(images), json.loads(extra["metadata.json"])
    with safe_open(str(file), "pt") as opened:
        described = opened.metadata()
    sizes = (json.loads(described[name]) for name in ("num_classes", "in_channels"))
    network = zoo.build(described["model"], *sizes, image_size=json.loads(described["image_size"])).eval()
    network.load_state_dict(load_file(str(file)), strict=True)
    with torch.no_grad():
        return network(images), described


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_alone_does_what_was_tested(folder: Path, format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Images normalised as the metadata says reach the accuracy that the run reports."""
    before = torch.get_rng_state()
    done = export(folder, format)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)
    assert done.path == folder / f"export.{format}"
    assert (done.size, done.convolutions) == (done.path.stat().st_size, 2)
    assert 0 <= done.difference < (1e-5 if format == "onnx" else 1e-12)
    assert done.reader.split()[0] == {"pt2": "torch", "onnx": "onnxruntime"}.get(format, format)

    data = digits().test
    _, described = read_alone(done.path, torch.zeros(1, 1, 8, 8))
    (mean,), (std,) = json.loads(described["mean"]), json.loads(described["std"])
    logits, _ = read_alone(done.path, (data.images / 255 - mean) / std)
    result = RunFolder(folder).result()
    assert result is not None
    accuracy = (logits.argmax(1) == data.labels).double().mean().item()
    assert accuracy == pytest.approx(result.epochs[-1].test_accuracy)
    assert accuracy > 0.4
    assert described["model"] == MODEL
    assert (described["method"], described["data"], described["small_images"]) == ("wau", "digits", "false")

    assert names(folder) == {*OF_A_RUN, done.path.name}
    assert done.path.stat().st_mode == (folder / "config.yaml").stat().st_mode
    for private in (Path(filtersmith.__file__).parent, Path(torch.__file__).parents[1], folder):
        assert str(private).encode() not in done.path.read_bytes()


def test_onnx_with_a_batch_of_any_size_and_weights_in_a_second_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "ONE_FILE", 0)
    done = export(folder, "onnx", folder / "new" / "net.onnx")
    assert names(folder / "new") == {"net.onnx", "net.onnx.data"}
    assert done.size == sum(file.stat().st_size for file in (folder / "new").iterdir())
    model = onnx.load(str(done.path))
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    images = torch.randn(7, 1, 8, 8)
    network = zoo.build(MODEL, 10, 1, image_size=8).eval()
    network.load_state_dict(weights(folder))
    torch.testing.assert_close(read_alone(done.path, images)[0], network(images).detach())


def test_weights_are_contiguous(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = zoo.build
    monkeypatch.setattr(zoo, "build", lambda *a, **k: build(*a, **k).to(memory_format=torch.channels_last))
    program = torch.export.load(export(folder, "pt2").path)
    assert all(tensor.is_contiguous() for tensor in program.state_dict.values())
    assert_same(load_file(str(export(folder, "safetensors").path)), weights(folder))


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "format", "count"), [("timm:test_nfnet", "onnx", 33), ("torchvision:mnasnet0_5", "safetensors", 52)]
)
def test_networks_of_other_libraries(folder: Path, model: str, format: str, count: int) -> None:
    """Computed kernels (weight standardisation) become constants; layers with a version (MNASNet) can be loaded."""
    pytest.importorskip(model.partition(":")[0])
    what = config()
    what = what.model_copy(update={"model": type(what.model)(name=model, small_images=True)})
    (folder / "config.yaml").write_text(to_yaml(what))
    save_model(zoo.build(model, 10, 1, image_size=8, small_images=True), str(RunFolder(folder).model))
    RunFolder(folder).write_manifest({**manifest(folder), "config": what.model_dump(mode="json")})
    assert export(folder, format).convolutions == count


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five convolutions on two kernels, and a regulator."""
    out = tmp_path_factory.mktemp("shared") / "run"
    run(config("dacnn+regulators", model="vanilla-5-16", epochs=1), out)
    return out


@pytest.mark.parametrize("format", FORMATS)
def test_a_shared_kernel_is_stored_once(shared: Path, tmp_path: Path, format: str) -> None:
    kernel = 16 * 16 * 9 * 4
    done = export(shared, format, tmp_path / f"net.{format}")
    assert (done.convolutions, done.kernels, done.zeros) == (6, 3, 0.0)
    if format == "onnx":
        model = onnx.load(str(done.path))
        used = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
        assert sorted(Counter(used).values()) == [1, 1, 4]
        stored = {tensor.name: len(tensor.raw_data) for tensor in model.graph.initializer}
        assert [size for size in stored.values() if size == kernel] == [kernel]
        assert set(used) <= set(stored)
    elif format == "pt2":
        with zipfile.ZipFile(done.path) as archive:
            assert [file.file_size for file in archive.infolist() if file.file_size == kernel] == [kernel]
    else:
        assert [tensor.nbytes for tensor in load_file(str(done.path)).values()].count(kernel) == 1
        # As its metadata says: the network, then the changes that the method names.
        with safe_open(str(done.path), "pt") as opened:
            described = opened.metadata()
        network = zoo.build(described["model"], 10, 1, image_size=8).eval()
        network = compose(described["method"]).change_architecture(network)
        load_model(network, str(done.path))
        assert_same(load_file(str(done.path)), weights(shared))
        images = torch.randn(3, 1, 8, 8)
        loaded = load_network(RunFolder(shared).read_config(), manifest(shared)["network"], done.path)
        torch.testing.assert_close(network(images), loaded(images), rtol=0, atol=0)
        assert sum(p.numel() for p in loaded.parameters()) == manifest(shared)["parameters_deployed"]


def test_kernels_that_the_exporter_unties_do_not_pass(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting.write

    def unties(network: nn.Module, *arguments: Any, **options: Any) -> None:
        plain = zoo.build("vanilla-5-16", 10, 1, image_size=8).eval()
        plain = compose("regulators").change_architecture(plain)
        plain.load_state_dict(network.state_dict())
        with torch.no_grad():  # else the optimizer finds out that they are equal
            for number, layer in enumerate(m for m in plain.modules() if isinstance(m, nn.Conv2d)):
                layer.weight[0, 0, 0, 0] += 1e-9 * number
        write(plain, *arguments, **options)

    monkeypatch.setattr(exporting, "write", unties)
    with pytest.raises(RunFailed, match="the file has 6 kernels, the network 3 that its layers share"):
        export(shared, "onnx", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


# Files that are wrong


@pytest.mark.parametrize("format", FORMATS)
def test_other_weights_do_not_pass(folder: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    write, old = exporting.write, folder / f"export.{format}"
    old.write_text("the file of before")

    def tampers(network: nn.Module, *arguments: Any, **options: Any) -> None:
        with torch.no_grad():
            next(network.parameters())[0] *= 1.01
        write(network, *arguments, **options)

    monkeypatch.setattr(exporting, "write", tampers)
    with pytest.raises(RunFailed, match=rf"^{MODEL} cannot be exported as {format}: outputs read back differ by"):
        export(folder, format)
    assert names(folder) == {*OF_A_RUN, old.name}
    assert old.read_text() == "the file of before"


def test_a_convolution_whose_weight_is_computed_does_not_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs are right: only the look into the graph finds it."""
    write = exporting.write

    def tampers(network: nn.Module, format: str, file: Path, *arguments: Any, **options: Any) -> None:
        write(network, format, file, *arguments, **options)
        model = onnx.load(str(file))
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        model.graph.node.insert(0, helper.make_node("Identity", [conv.input[1]], ["computed"]))
        conv.input[1] = "computed"
        onnx.save(model, str(file))

    monkeypatch.setattr(exporting, "write", tampers)
    with pytest.raises(RunFailed, match=r"weight of the convolution .* is computed, not stored"):
        export(folder, "onnx")
    assert names(folder) == OF_A_RUN


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_a_network_that_has_no_such_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], format: str
) -> None:
    class Branches(Vanilla):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    def build(name: str, classes: int, channels: int, **options: Any) -> nn.Module:
        return Branches(2, 4, num_classes=classes, in_channels=channels, image_size=8)

    monkeypatch.setattr(zoo, "build", build)
    with pytest.raises(RunFailed, match=f"{MODEL} cannot be exported as {format}: .*data-dependent") as caught:
        export(folder, format)
    assert len(str(caught.value)) < 330
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert names(folder) == OF_A_RUN


# Folders that are wrong


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a run"
    with StopRequest() as stop, pytest.raises(Interrupted):
        run(config(epochs=2, batch_size=719), out, stop=stop, progress=StopAfter(stop, 3))
    with pytest.raises(ValueError, match=r"is not finished \(1 of 2 epochs\): `filtersmith train") as caught:
        export(out, "safetensors")
    monkeypatch.setattr(sys, "argv", shlex.split(str(caught.value).split("`")[1]))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert_same(load_file(str(export(out, "safetensors").path)), weights(out))


def test_folders_that_are_no_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing", folder / "config.yaml", folder / "checkpoints"):
        with pytest.raises(ValueError, match=r" is not the folder of a run, as `filtersmith train --out` makes it"):
            export(path, "safetensors")
    comparison = CompareConfig(methods=("baseline", "wau(rate=0.3)"), seeds=(0, 1))
    out = tmp_path / "comparison"
    planned = [one.folder.path for one in plan(comparison, out)]
    for path in planned:
        shutil.copytree(folder, path)
    (out / "config.yaml").write_text(to_yaml(comparison))
    for path in (out, out / "runs"):
        with pytest.raises(
            ValueError, match=f"^{path} is not the folder of one run; choose one that it holds: "
        ) as e:
            export(path, "safetensors")
        assert str(e.value).partition("holds: ")[2].split(", ") == sorted(map(str, planned))
    assert export(planned[0], "safetensors").path.parent == planned[0]


def test_weights_that_do_not_fit(folder: Path) -> None:
    file = RunFolder(folder).model
    content, other = file.read_bytes(), save(zoo.build("vanilla-1-4", 10, 1, image_size=8).state_dict())
    for change, words in (
        (
            lambda: file.write_bytes(content[:-8]),
            r"safetensors has 12,512 bytes where it had 12,520\): `filters",
        ),
        (lambda: file.write_bytes(content[:-1] + b"\0"), "model.safetensors has changed since it was written"),
        (file.unlink, r"is damaged \(model.safetensors is missing\): `filtersmith train .* makes it whole$"),
        (lambda: shutil.rmtree(folder / "checkpoints"), "and has no checkpoint to make it whole from$"),
    ):
        change()
        with pytest.raises(ValueError, match=words) as caught:
            export(folder, "safetensors")
        assert "\n" not in str(caught.value)
    file.write_bytes(other)
    RunFolder(folder).write_manifest(manifest(folder))
    with pytest.raises(ValueError, match=r"does not hold the weights of vanilla-2-4: .*Missing key.*features.3"):
        export(folder, "safetensors")
    assert names(folder) <= OF_A_RUN


def test_runs_from_before_the_manifest_knew_the_network(folder: Path) -> None:
    facts = manifest(folder)
    mean, std = (values.tolist() for values in channel_stats(digits().train))
    network = {"num_classes": 10, "in_channels": 1, "image_size": 8, "mean": mean, "std": std}
    assert facts.pop("network") == network
    RunFolder(folder).write_manifest(facts)
    with safe_open(str(export(folder, "safetensors").path), "pt") as opened:
        assert {name: json.loads(opened.metadata()[name]) for name in network} == network
    del facts["config"]  # nor that
    RunFolder(folder).write_manifest(facts)
    recipe = folder / "config.yaml"
    recipe.write_text(recipe.read_text().replace("name: digits", "name: imagefolder:/no/where"))
    with pytest.raises(
        ValueError, match=r"manifest.json has no classes .* the data is needed: .*no folder /no/where"
    ):
        export(folder, "safetensors")


# Options that are wrong


def test_options(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown format 'onn' .*'onnx'.*; known: safetensors, pt2, onnx"):
        export(folder, "onn")
    before = {name: (folder / name).read_bytes() for name in OF_A_RUN - {"checkpoints"}}
    for out, words in (
        (folder, "--out must be a file, not a folder"),
        (folder / "checkpoints" / ".." / "model.safetensors", "--out must be another file than those of the run"),
        (folder / "config.yaml" / "net", "--out .*config.yaml cannot be written to"),
    ):
        with pytest.raises(ValueError, match=words):
            export(folder, "safetensors", out)
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert names(folder) == OF_A_RUN


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_library_that_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf'needs {library}, which.*: pip install "filtersmith\[export\]"'):
        export(folder, "onnx")
    assert export(folder, "safetensors").path.is_file()
