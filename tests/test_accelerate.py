"""The scripts and commands of docs/accelerate.md in several processes, and as two machines of one computer."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.test_fully_shard import TRAINS, TRAINS_PREPARED
from test_docs import blocks, commands

import filtersmith as fs
from filtersmith.methods import METHODS

pytest.importorskip("accelerate")

PAGE = Path(__file__).parent.parent / "docs" / "accelerate.md"
SHARDED_ON_CPU = Path(__file__).parent / "reference" / "sharded_on_cpu.py"
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))},
    "ACCELERATE_USE_CPU": "true",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(fs.__file__).parent.parent),
}


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A command of the page, on the CPU."""
    program = [sys.executable, str(BIN / command[0]), *command[1:]]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(program, cwd=folder, env=ENVIRONMENT, text=True, **pipes)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, output


def run(command: list[str], folder: Path) -> str:
    code, output = end(start(command, folder))
    assert code == 0, output[-4000:]
    return output


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def script(number: int, said: str = "") -> str:
    """A script of the page, which says at the end what ``said`` computes, once for all processes."""
    text = blocks(PAGE, "python")[number]
    said = f'print("said", {said})\n' if said else ""
    last = "accelerator.end_training()\n" if number else ""
    return text.removesuffix(last) + said + last


def plain() -> torch.nn.Module:
    names: dict[str, Any] = {"torch": torch}
    text = re.search(r"^def network\(\):\n(?:    .*\n)+", blocks(PAGE, "python")[1], re.M)
    assert text is not None
    exec(text[0], names)
    network: torch.nn.Module = names["network"]()
    return network


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Of a deployed network, in which a plain one takes them all."""
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    plain().load_state_dict(found, strict=True)
    return found


@pytest.mark.long
def test_two_machines_train_together_by_the_commands_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(script(0, "accelerator.num_processes, accelerator.process_index"))
    launches = [line for block in blocks(PAGE, "bash") for line in commands(block) if line[:1] == ["accelerate"]]
    assert [line[line.index("--machine_rank") + 1] for line in launches] == ["0", "1"]
    instead = {"16": "2", "HOST": "127.0.0.1", "29500": free_port()}
    machines = [start([instead.get(word, word) for word in line], tmp_path) for line in launches]
    ended = [end(machine) for machine in machines]
    for rank, (code, output) in enumerate(ended):
        assert code == 0, output[-4000:]
        assert f"said 2 {rank}" in output
    weights(tmp_path / "deployed.pt")


def sharded(folder: Path, *, forced: bool, text: str) -> str:
    """Run the page's second script by the page's command."""
    folder.mkdir(exist_ok=True)
    (folder / "sharded.py").write_text(text)
    (command,) = (line for block in blocks(PAGE, "bash") for line in commands(block) if line[0] == "torchrun")
    if forced:
        command = [*command[:-1], str(SHARDED_ON_CPU), command[-1]]
    port = ["--master-port", free_port()]
    return run([command[0], *port, *command[1:]], folder)


STOPPED = ("    accelerator.wait_for_everyone()\n", "    accelerator.wait_for_everyone()\n    raise SystemExit\n")


@pytest.mark.long
@pytest.mark.parametrize("forced", [False, True], ids=["as CPUs do it", "sharded"])
def test_stopped_after_an_epoch_and_resumed_it_deploys_the_same_weights(forced: bool, tmp_path: Path) -> None:
    kind = "type(next(model.parameters())).__name__"
    said = sharded(tmp_path / "through", forced=forced, text=script(1, kind))
    assert said.count(f"said {'DTensor' if forced else 'Parameter'}") == 2
    through = weights(tmp_path / "through" / "deployed.pt")
    sharded(tmp_path / "resumed", forced=forced, text=script(1).replace(*STOPPED))
    assert not (tmp_path / "resumed" / "deployed.pt").exists()
    sharded(tmp_path / "resumed", forced=forced, text=script(1))
    resumed = weights(tmp_path / "resumed" / "deployed.pt")
    for name, value in through.items():
        assert torch.equal(resumed[name], value), name
    if forced:  # what the page saves of the methods counts: without it this is another run
        text = script(1).replace('    training.load_state_dict(saved["training"])\n', "")
        sharded(tmp_path / "forgets", forced=forced, text=text.replace(*STOPPED))
        sharded(tmp_path / "forgets", forced=forced, text=text)
        forgets = weights(tmp_path / "forgets" / "deployed.pt")
        assert any(not torch.equal(forgets[name], value) for name, value in through.items())


def test_the_page_names_the_methods_that_train_on_sharded_weights() -> None:
    """`test_fully_shard` trains every method so, or sees it refused."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"\*\*What works\*\*: (.*?)\(not sharded in parts\)\. (.*?) need whole filters", page, re.S)
    assert found is not None
    works, refused = ({*re.findall(r"`([a-z-]+)`", text)} for text in found.groups())
    assert works == TRAINS | TRAINS_PREPARED
    assert refused == METHODS.keys() - works - {"regulators"}
