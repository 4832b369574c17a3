"""A page for every method of the registry, and the page that lists them."""

from __future__ import annotations

import inspect
import shlex
from typing import Any

import filtersmith as fs
from filtersmith.lab.cards import TO_BE_GIVEN, example
from filtersmith.methods import BASELINE, METHODS, Method
from filtersmith.methods.lifecycle import of_class, option_defaults
from filtersmith.methods.spelling import Spelled
from filtersmith_site import cards
from filtersmith_site.api import documented
from filtersmith_site.written import code, contents, heading, page, table

SCRIPT = """\
import torch
from torch.nn import functional as F

import filtersmith as fs
from filtersmith import zoo


def schedule(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)


loader = [(torch.randn(4, 3, 16, 16), torch.randint(10, (4,))) for _ in range(2)]
training = {compose}
model = training.prepare(zoo.build("resnet20"))  # before the optimizer is made
weights = training.param_groups(model, weight_decay=1e-4)
optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
training.attach(model, optimizer, epochs=6, scheduler=schedule)
for epoch in range(6):
    for images, labels in loader:
        outputs = model(images)
        loss = F.cross_entropy(outputs, labels)
        loss = loss + training.penalty(images, outputs, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        training.end_batch()
    if event := training.end_epoch():
        print(f"after epoch {{epoch + 1}}: {{event}}")
deployed = training.finish()
print(sum(p.numel() for p in deployed.parameters()), "parameters to deploy")
"""


def pages() -> dict[str, str]:
    """File below docs/generated -> its text."""
    made = {f"methods/{name}.rst": method_page(record) for name, record in METHODS.items()}
    return made | {"methods/index.rst": overview()}


def overview() -> str:
    """All methods, in the registry's order."""
    rows = [
        [f":doc:`{name}`", record.summary, "same" if record.same_network else "changes", record.paper]
        for name, record in METHODS.items()
    ]
    return page(
        heading("All methods", "="),
        "A page has the method's card, a script that runs, the options, and what its class or function takes. "
        "What each gained and what it cost is in :doc:`/generated/repository/results/README`.",
        table(["Method", "What it does", "Deployed network", "Paper"], rows),
        contents(METHODS),
    )


def method_page(record: Method) -> str:
    """The card, a script, the options, the class."""
    return page(
        heading(record.name, "="),
        cards.title(record.card),
        _facts(record),
        cards.body(record.card),
        heading("A script that runs"),
        "Two batches of noise and ResNet-20 stand for your data and your network.",
        code(script(record)),
        heading("On the command line"),
        code(f"filtersmith compare --methods {shlex.quote(f'{BASELINE},{example(record)}')}", "bash"),
        _options(record),
        heading("Reference"),
        reference(record),
    )


def script(record: Method) -> str:
    """A training with the method alone; options that have to be given are those that the contract tries."""
    needed = [option for option, default in option_defaults(record.cls).items() if default is TO_BE_GIVEN]
    outside = [option for option in of_class(record.cls, "resolved", ()) if option in needed]  # other networks
    given = {option: "resnet20" if option in outside else record.tried[option] for option in needed}
    resolve = ", resolve=zoo.build" if outside else ""
    return SCRIPT.format(compose=f'fs.compose("{Spelled(record.name, given)}"{resolve})')


def reference(record: Method) -> str:
    """Of the class or function, under its public name where it has one."""
    public = getattr(fs, record.cls.__name__, None) is record.cls
    return documented("filtersmith" if public else record.cls.__module__, record.cls.__name__, record.cls)


def _facts(record: Method) -> str:
    """What the registry knows, in two or three sentences."""
    deployed = "the one that was handed in" if record.same_network else "another one than was handed in"
    told = f"``{record.name}``: {record.summary}. The network to deploy is {deployed}."
    same = [f":doc:`{name}`" for name, other in METHODS.items() if _file(other) == _file(record) and other != record]
    return f"{told} It shares this card with {' and '.join(same)}." if same else told


def _file(record: Method) -> str:
    return inspect.getfile(record.cls)


def _options(record: Method) -> str:
    rows = [[f"``{option}``", _default(option, value)] for option, value in option_defaults(record.cls).items()]
    return table(["Option", "Default"], rows) if rows else "It takes no options."


def _default(option: str, value: Any) -> str:
    if value is TO_BE_GIVEN:
        return "to be given"
    if option == "seed":
        return "that of the run"
    return "left open" if value is None else f"``{value}``"
