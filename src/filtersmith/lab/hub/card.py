"""The model card of a run: what was trained on what and how, what it reached, and what that does not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from filtersmith.common.words import noun, plural
from filtersmith.lab import public
from filtersmith.lab.data.describe import SHOWN
from filtersmith.lab.data.files import shortened
from filtersmith.lab.hub.compared import Compared
from filtersmith.lab.hub.licences import UNKNOWN
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.recipe.strict_yaml import write
from filtersmith.lab.results.document import Run
from filtersmith.lab.results.markdown import code, pipes, whole
from filtersmith.lab.results.numbers import percent
from filtersmith.lab.results.sentences import evidence, sentence
from filtersmith.lab.results.statistics import ENOUGH_PAIRS, summarize
from filtersmith.lab.tasks.names import info_of
from filtersmith.lab.training import learning_rate
from filtersmith.methods import BASELINE
from filtersmith.methods.outside import names_in
from filtersmith.methods.spelling import read
from filtersmith.zoo.places import place_of

_HUB_TASKS = {
    "classification": "image-classification",
    "detection": "object-detection",
    "vqa": "visual-question-answering",
}
_METRICS = {"classification": "accuracy", "detection": "mean_average_precision", "vqa": "accuracy"}


@dataclass(frozen=True)
class Facts:
    """What a card is made of.

    Attributes:
        config: the run's.
        network: what is known of the data that the network was made for.
        manifest: the run's.
        run: what it reached.
        compared: the comparison to which it belongs, if there is one.
        data_licence: in words.
    """

    config: RunConfig
    network: Mapping[str, Any]
    manifest: Mapping[str, Any]
    run: Run
    compared: Compared | None
    data_licence: str

    @property
    def title(self) -> str:
        """Of the data."""
        return self.compared.comparison.data_title if self.compared else public.data_title(self.config.data.name)


def card(facts: Facts) -> str:
    """``README.md`` of a folder for the hub: metadata, then Markdown."""
    parts = (_head, _what, _use, _reached, _data, _training, _licence)
    return "\n\n".join(part(facts) for part in parts) + "\n"


def _head(facts: Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    config, last = facts.config, facts.run.epochs[-1]
    reached = EvalResult(
        task_type=_HUB_TASKS[config.task],
        dataset_type=public.data_name(config.data.name).rpartition(":")[2],
        dataset_name=facts.title,
        dataset_split="test",
        metric_type=_METRICS[config.task],
        metric_name=f"{info_of(config.task).score} after the last epoch",
        metric_value=last.test_accuracy,
    )
    form, _, place = config.data.name.partition(":")
    on_hub = form == "hf" and not public.is_path(form, place)
    head = ModelCardData(
        library_name="filtersmith",
        license=UNKNOWN,
        pipeline_tag=_HUB_TASKS[config.task],
        tags=["filtersmith", *(one.record.name for one in read(config.method))],
        datasets=[place] if on_hub else None,
        model_name=f"{public.model_name(config.model.name)}-{facts.title}",
        eval_results=[reached],
    )
    return f"---\n{head.to_yaml()}\n---"


def _what(facts: Facts) -> str:
    config, known = facts.config, facts.network
    methods = [one.record for one in read(config.method)]
    model = code(public.model_name(config.model.name))
    text = [f"# {model}, {code(public.method(config.method))}, {facts.title}", "", _takes(config.task, model, known)]
    text += [f"- {code(record.name)}: {record.summary}. Source: {record.paper}." for record in methods]
    if config.method == BASELINE:
        text.append("Trained plainly, with no method.")
    elif all(record.same_network for record in methods):
        text += ["", f"Its methods change training alone: the network is a plain {model}, of the same size and cost."]
    return "\n".join(text)


def _takes(task: str, model: str, known: Mapping[str, Any]) -> str:
    if task == "classification":
        size, channels = known["image_size"], plural(known["in_channels"], "channel")
        return (
            f"{model} for {plural(known['num_classes'], 'class', 'classes')} of {size}x{size} images, {channels}.\n"
        )
    return f"{model} for {info_of(task).summary}.\n"


def _use(facts: Facts) -> str:
    own = place_of(facts.config.model.name)
    if facts.config.task != "classification":
        call = 'from filtersmith.lab.exported import load\n\nloaded = load("model.safetensors")  # of this folder'
        if own:
            call = call.replace('s")', 's", own_code=True)')
        return f"## Use\n\n```python\n{call}\nnetwork = loaded.network\n```"
    known, size = facts.network, facts.network["image_size"]
    more = ", own_code=True" if own else ""
    lines = [
        "import torch",
        "",
        "from filtersmith.zoo import from_pretrained",
        "",
        f'network = from_pretrained("."{more})  # this folder, or OWNER/NAME on the hub',
        f"mean = torch.tensor({_short(known['mean'])}).view(-1, 1, 1)",
        f"std = torch.tensor({_short(known['std'])}).view(-1, 1, 1)",
        f"images = torch.rand(1, {known['in_channels']}, {size}, {size})  # values from 0 to 1",
        "logits = network((images - mean) / std)",
    ]
    text = ["## Use", "", "```python", *lines, "```"]
    if own:
        files = ", ".join(code(name) for name in (facts.manifest.get("model") or {}).get("sources", {}))
        text += ["", f"The network's own code is not in this folder ({files}): it has to be at hand."]
    return "\n".join(text)


def _short(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _reached(facts: Facts) -> str:
    about, run = info_of(facts.config.task), facts.run
    last, best = run.epochs[-1], max(run.epochs, key=lambda epoch: epoch.test_accuracy)
    rows = [(f"Test {about.score} after the last epoch", last.test_accuracy)]
    rows += list(last.scores.items())
    rows.append((f"Best test epoch ({best.epoch}), which the test set chose", best.test_accuracy))
    lines = ["## Results", "", f"Of this network, seed {run.seed}:", "", pipes(("Figure", "%")), "|---|---:|"]
    lines += [pipes((name, percent(value))) for name, value in rows]
    return "\n".join([*lines, "", *_interval(facts)])


def _interval(facts: Facts) -> Iterator[str]:
    found = facts.compared
    if found is None:
        yield "One seed was trained: no interval can be given, and nothing here says what the method is worth."
        return
    one = next(one for one in summarize(found.comparison) if one.method == found.arm)
    seeds = ", ".join(str(run.seed) for run in one.finished)
    yield f"It was trained in a comparison, which has {plural(len(one.finished), 'seed')} of this row: {seeds}."
    if one.difference is not None and one.difference.pairs >= ENOUGH_PAIRS:
        yield (
            f"Against plain training with the same seeds: {sentence(one.difference)} "
            f"({evidence(one.difference, one.asked)})."
        )
    elif found.arm != BASELINE:
        yield "Fewer than three pairs with plain training: no interval is given."
    yield ""
    yield whole([found.comparison]).rstrip("\n")


def _data(facts: Facts) -> str:
    known, options = facts.manifest.get("data") or {}, facts.config.data
    rows = [("Set", f"{facts.title} ({code(public.data_name(options.name))})"), ("Licence", facts.data_licence)]
    for split, found in (known.get("splits") or {}).items():
        if isinstance(found, dict) and "images" in found:
            rows.append((f"{split.capitalize().replace('_', '-')} images", f"{found['images']:,}"))
    names = known.get("class_names")
    if names:
        rows.append(("Classes", shortened([str(name).replace("|", "\\|") for name in names], SHOWN)))
    for fact in ("mean", "std"):
        if fact in facts.network:
            rows.append((f"{fact} of the training images, 0 to 1", _short(facts.network[fact])))
    return "\n".join(["## Data", "", pipes(("", "")), "|---|---|", *map(pipes, rows)])


def _training(facts: Facts) -> str:
    config, train = facts.config, facts.config.train
    where = facts.manifest.get("environment") or {}
    rows = [
        (
            "Schedule",
            f"{plural(train.epochs, 'epoch')}, {train.optimizer} {train.lr:g}, {learning_rate.describe(train)}",
        ),
        ("Seed", str(config.seed)),
        ("Precision", train.precision),
        ("Processes", str(facts.manifest.get("processes", 1))),
        ("Parameters", _parameters(facts.run)),
        ("Versions", ", ".join(f"{name} {value}" for name, value in where.items() if name not in ("threads", "cpu"))),
    ]
    weights = (facts.manifest.get("model") or {}).get("weights") or {}
    if weights:
        rows.append(("Begun with", f"{weights.get('file')}, SHA-256 {weights.get('sha256')}"))
    table = "\n".join([pipes(("", "")), "|---|---|", *map(pipes, rows)])
    recipe = write(public.recipe(config)).strip()
    named = [*(["the teacher"] if any(names_in(config.method)) else []), *(["model.weights"] if weights else [])]
    lacks = f", once {' and '.join(named)} {noun(len(named), 'is', 'are')} filled in" if named else ""
    text = f"The recipe, for `filtersmith train --recipe`{lacks}:"
    return f"## Training\n\n{table}\n\n{text}\n\n```yaml\n{recipe}\n```"


def _parameters(run: Run) -> str:
    training, deployed = run.parameters_training, run.parameters_deployed
    return f"{deployed:,}" if training == deployed else f"{deployed:,} deployed, {training:,} in training"


def _licence(facts: Facts) -> str:
    begun = "" if facts.config.model.weights is None else " So may have those of the weights that it began with."
    return (
        "## Licence\n\nWho trained this network has named no licence for its weights: set `license` at the head of "
        f"this file before you publish it. The data may have terms of their own: {facts.data_licence}.{begun}"
    )
