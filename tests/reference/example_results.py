"""Small result documents made by hand, for the tests of statistics, tables and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from filtersmith.lab.results.document import Comparison, Epoch, Run

LONG_NAME = "wau(rate=0.5,unit=input-channel,draw=with-replacement)"


def run(
    method: str, seed: int, accuracies: Sequence[float], seconds: Sequence[float] | None = None, **fields: object
) -> Run:
    """A finished run with these test accuracies, one an epoch."""
    epochs = [
        Epoch(
            epoch=number,
            lr=0.1,
            train_loss=1 / number,
            train_accuracy=accuracy,
            test_loss=1 / number,
            test_accuracy=accuracy,
            train_seconds=1.0 if seconds is None else seconds[number - 1],
        )
        for number, accuracy in enumerate(accuracies, start=1)
    ]
    sizes = {"parameters_training": 19_584, "parameters_deployed": 19_584}
    values = {"status": "finished", **sizes, **fields}
    return Run.model_validate({"method": method, "seed": seed, "epochs": tuple(epochs), **values})


def compared(runs: Sequence[Run], **fields: object) -> Comparison:
    """The comparison that these runs make up; methods and seeds are those of the runs."""
    values = {
        "title": "digits · vanilla · cosine",
        "data": "digits",
        "data_title": "digits",
        "model": "vanilla",
        "epochs": max(len(one.epochs) for one in runs),
        "seeds": tuple(sorted({one.seed for one in runs})),
        "methods": tuple(dict.fromkeys(one.method for one in runs)),
        "runs": tuple(runs),
    }
    return Comparison.model_validate({**values, **fields})


def by_method(accuracies: Mapping[str, Sequence[float]]) -> Comparison:
    """One run a seed and method, of one epoch with the given test accuracy."""
    return compared([run(m, seed, [value]) for m, values in accuracies.items() for seed, value in enumerate(values)])


def sized(sizes: Mapping[str, tuple[int, Sequence[float]]]) -> Comparison:
    """One epoch of each method with its deployed parameters and the accuracy of each seed."""
    return compared(
        [
            run(method, seed, [value], parameters_training=2_000_000, parameters_deployed=size)
            for method, (size, values) in sizes.items()
            for seed, value in enumerate(values)
        ]
    )


def everything() -> Comparison:
    """Long names, a method of which one seed failed, one that failed altogether, one that was never run."""
    error = "the training loss is NaN in epoch 3: <b>lower</b> [red]the | rate"
    runs = [run("baseline", s, [0.5, 0.91 + 0.01 * s, 0.90 + 0.01 * s]) for s in range(3)]
    runs += [run(LONG_NAME, s, [0.4, 0.8, 0.2 - 0.1 * s]) for s in range(3)]
    sizes = {"parameters_training": 25_400_000, "parameters_deployed": 11_173_962}
    runs += [run("kflo(depth=2,width=4)", s, [0.4, 0.8, 0.95], [9.0, 2.5, 2.5], **sizes) for s in range(3)]
    runs += [run("asa", s, [0.4, 0.9, 0.97], phase_starts=(1, 2)) for s in range(2)]
    runs.append(run("asa", 2, [0.4], status="failed", error=error))
    runs += [run("repr(s1=20)", s, [], status="failed", error=error) for s in range(2)]
    runs.append(run("repr(s1=20)", 2, [0.4, 0.5], status="interrupted"))
    methods = ("baseline", LONG_NAME, "kflo(depth=2,width=4)", "asa", "repr(s1=20)", "<i>odd</i>|name")
    return compared(
        runs,
        methods=methods,
        config={"train": {"lr": 0.1, "note": "<script>alert(1)</script>"}},
        environment={"torch": "2.15.0", "commit": None},
    )
