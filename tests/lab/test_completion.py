"""The shell completes names, also inside of a list, without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from filtersmith.lab import completion
from filtersmith.methods import METHODS


def test_names() -> None:
    assert completion.methods("") == ["baseline", *METHODS]
    assert completion.methods("baseline,w") == ["baseline,wau"]
    assert completion.methods("baseline,kflo+e") == ["baseline,kflo+ema"]
    assert completion.one_method("kflo+e") == []
    assert completion.models("lene") == ["lenet5"]
    assert completion.data("i") == ["imagefolder:"]
    assert completion.recipes("digi") == ["digits", "digits-200"]
    assert completion.recipes("./mine") == [], "a file"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("compare --methods baseline,w", "baseline,wau"),
        ("train --model resnet18-", "resnet18-cifar"),
        ("train --recipe cifar-r", "cifar-resnet20"),
        ("export --format p", "pt2"),
        ("list mo", "models"),
        ("describe do", "do-conv"),
    ],
)
def test_the_shell_asks(line: str, found: str) -> None:
    words = f"filtersmith {line}"
    ask = {"_FILTERSMITH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*(sys.modules.keys() & {'torch', 'numpy'})))\n"
        "from filtersmith.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **ask}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [found]
