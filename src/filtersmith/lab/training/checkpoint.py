"""A checkpoint: all that a run needs to go on, in plain files that cannot run code and cannot change unseen.

====================  ============================================================================
``network.pt``        parameters and buffers of the network in training
``optimizer.pt``      the optimizer's state
``methods.pt``        what the methods and the schedule keep
``position.json``     how far the run is, and what it measured
``scaler.json``       the gradient scaler's state, where there is one
``random-0.pt``       the random states of each process
``config.yaml``       the configuration
``data.json``         the fingerprint of the data
``digests.json``      the step, the number of processes, and size and digest of every other file
====================  ============================================================================

``*.pt`` is torch's format, read with ``weights_only=True``: it keeps strides, which safetensors does not.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from filtersmith.common.options import first_line
from filtersmith.lab.training.agreement import on_all
from filtersmith.lab.training.digests import difference, digest, seal, unseal, write_through
from filtersmith.lab.training.random_states import random_states, restore_random_states

if TYPE_CHECKING:
    from filtersmith.lab.training.session import Session
    from filtersmith.methods.composition import Composition

CONFIG, DATA, DIGESTS = "config.yaml", "data.json", "digests.json"
_FORMAT = 1
_OF_ACCELERATE = ("pytorch_model.bin", "optimizer.bin", "custom_checkpoint_0.pkl")
_PLAIN = (type(None), bool, int, float, str, Tensor, nn.Parameter, torch.Size, torch.dtype, torch.device)


def name_of(step: int) -> str:
    """The folder of the checkpoint of a step."""
    return f"step-{step:08d}"


# --- written -----------------------------------------------------------------------------------------------


def gather_random_states(accelerator: Any) -> list[dict[str, Any]]:
    """The random states of all processes. All of them call it."""
    own = [random_states(accelerator.device)]
    if accelerator.num_processes == 1:
        return own
    from accelerate.utils import gather_object

    return gather_object(own)  # type: ignore[no-any-return]


def write(session: Session, folder: Path, random: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> None:
    """Write all files into an empty folder, in the main process alone.

    Args:
        session: what is saved.
        folder: a new one.
        random: the random states of all processes.
        data: the fingerprint of the data.

    Raises:
        ValueError: a state holds something that could not be read again.
        OSError: it cannot be written.
    """
    states: dict[str, Any] = {
        "network.pt": session.model.state_dict(),
        "optimizer.pt": session.optimizer.state_dict(),
        "methods.pt": methods_state(session.composition),
        "position.json": session.position.state_dict(),
        DATA: data,
        **{f"random-{rank}.pt": state for rank, state in enumerate(random)},
    }
    if session.scaler is not None:
        states["scaler.json"] = session.scaler.state_dict()
    files = {}
    for name, state in states.items():
        content = _packed(name, state)
        _write(folder / name, content)
        files[name] = digest(content)
    content = session.recipe.encode()
    _write(folder / CONFIG, content)
    files[CONFIG] = digest(content)
    facts = {"format": _FORMAT, "step": session.position.step, "processes": len(random), "files": files}
    _write(folder / DIGESTS, seal(facts).encode())
    write_through(folder / name for name in (*files, DIGESTS))


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def methods_state(composition: Composition) -> dict[str, Any]:
    """The state of the methods; ``ValueError`` naming the method whose state is not plain values."""
    state = composition.state_dict()
    for spelled, part in zip(composition.spelled, state["parts"], strict=True):
        if (found := foreign(part)) is not None:
            raise ValueError(
                f"the state of the method {spelled.name!r} cannot be saved: {found}; it must be made of tensors, "
                "numbers, strings, None, and lists, tuples and dictionaries of them"
            )
    return state


def foreign(value: Any, place: str = "state") -> str | None:
    """The first value that ``weights_only`` would not read: ``state['a'][0] is a numpy.ndarray``; else ``None``."""
    kind = type(value)  # not isinstance: a subclass is a class of somebody's
    inner: Iterable[tuple[Any, Any]]
    if kind in (dict, OrderedDict):
        inner = ((key, one) for pair in value.items() for key, one in ((None, pair[0]), (pair[0], pair[1])))
    elif kind in (list, tuple):
        inner = enumerate(value)
    elif kind in _PLAIN:
        return None
    else:
        return f"{place} is a {kind.__module__}.{kind.__qualname__}"
    for key, one in inner:
        if found := foreign(one, f"a key of {place}" if key is None else f"{place}[{key!r}]"):
            return found
    return None


def _packed(name: str, state: Any) -> bytes:
    if name.endswith(".json"):
        return (json.dumps(state, indent=1) + "\n").encode()
    if (found := foreign(state)) is not None:
        raise ValueError(f"{name} cannot be saved: {found}")
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


# --- read --------------------------------------------------------------------------------------------------


def check(checkpoint: Path) -> None:
    """``ValueError`` in one line unless every file is there, whole and unchanged; it says how to go on without."""
    if not (checkpoint / DIGESTS).is_file() and any((checkpoint / name).is_file() for name in _OF_ACCELERATE):
        raise ValueError(
            f"{checkpoint.parent.parent} holds an unfinished run of filtersmith 0.1, or of a 0.2 whose checkpoints "
            "had no digests, and this version cannot go on from its checkpoints: remove "
            f"{checkpoint.parent} to train it anew, or choose another --out"
        )
    if (found := _wrong(checkpoint)) is not None:
        raise damaged(checkpoint, found)


def damaged(checkpoint: Path, what: str) -> ValueError:
    """The error for a checkpoint that nobody should go on from."""
    older = [one.name for one in sorted(checkpoint.parent.glob("step-*")) if one.name < checkpoint.name]
    way = f"go on from {older[-1]}" if older else "train from the start"
    return ValueError(f"the checkpoint {checkpoint} is damaged ({what}): remove that folder to {way}")


def _wrong(checkpoint: Path) -> str | None:
    try:
        facts = unseal((checkpoint / DIGESTS).read_bytes().decode())
    except OSError as error:
        return f"{DIGESTS} cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return f"{DIGESTS} is not as it was written: {first_line(error)}"
    if facts.get("format") != _FORMAT:
        return f"{DIGESTS} has format {facts.get('format')!r}, this version reads {_FORMAT}"
    files, own = facts["files"], name_of(facts["step"])
    if checkpoint.name != own:
        return f"it was written as {own}, and must have that name"
    # Hidden files are the system's, and nobody reads them.
    extra = {file.name for file in checkpoint.iterdir() if not file.name.startswith(".")} - {DIGESTS, *files}
    if extra:
        return f"{min(extra)} does not belong to it"
    return next(filter(None, (difference(checkpoint / name, wanted) for name, wanted in files.items())), None)


def load(session: Session, checkpoint: Path) -> None:
    """Bring a session to where a checkpoint was saved. All processes call it. ``ValueError`` where it cannot be."""

    def work() -> None:
        check(checkpoint)
        try:
            _load(session, checkpoint)
        except Exception as error:  # a state may fail to fit in any way
            raise damaged(checkpoint, first_line(error)) from error

    on_all(session.accelerator, work)


def _load(session: Session, checkpoint: Path) -> None:
    session.model.load_state_dict(_read(checkpoint, "network.pt"))
    session.optimizer.load_state_dict(_read(checkpoint, "optimizer.pt"))
    session.composition.load_state_dict(_read(checkpoint, "methods.pt"))
    session.position.load_state_dict(_read(checkpoint, "position.json"))
    if session.scaler is not None:
        session.scaler.load_state_dict(_read(checkpoint, "scaler.json"))
    # A process that was not there then keeps the state that its seed gave it.
    own = f"random-{session.accelerator.process_index}.pt"
    if (checkpoint / own).is_file():
        restore_random_states(_read(checkpoint, own), session.accelerator.device)


def read_data(checkpoint: Path) -> dict[str, Any]:
    """The fingerprint of the data of a checkpoint that was checked."""
    found = _read(checkpoint, DATA)
    return found if isinstance(found, dict) else {}


def _read(checkpoint: Path, name: str) -> Any:
    content = (checkpoint / name).read_bytes()
    try:
        if name.endswith(".json"):
            return json.loads(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own words say how to load it all the same
        raise ValueError(f"{name} does not hold plain values") from error
