"""The records of the families: no name twice, and none of them imports torch."""

from __future__ import annotations

import re
import subprocess
import sys

from filtersmith import zoo


def test_a_name_belongs_to_one_family() -> None:
    assert len(set(zoo.names())) == len(zoo.names())
    for info in zoo.MODELS:
        for name in (*info.names, *(["timm:resnet20"] if info.library == "timm" else [])):
            assert [other.pattern for other in zoo.MODELS if re.fullmatch(other.regex, name)] == [info.pattern]
        assert set(info.tables) <= set(info.names)
    assert not [name for name in zoo.names() if ":" in name]


def test_networks_are_listed_without_torch() -> None:
    code = "import sys; from filtersmith import zoo; print(len(zoo.names()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(len(zoo.names())), "False"]


def test_a_network_is_made_by_the_file_of_its_family() -> None:
    for info in zoo.MODELS:
        assert info.build.__module__.startswith("filtersmith.zoo.")
        assert list(info.build.__annotations__) == ["match", "task", "return"]
