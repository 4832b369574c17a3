"""How a method takes part in a training: by what its class implements, and by the names of what that asks for.

All of it is optional. What makes the object, and ``attach``, are given by name what they ask for of these:
``model``, ``optimizer`` (a list where there are several), ``epochs``, ``seed``, ``scheduler`` (a function that makes
a schedule from an optimizer), ``held_out`` (batches that nothing is trained on) and ``useful_epochs`` (the last epoch
after which enough of the training follows for what comes back then: a tenth, counted in learning rate).

====================================  ===========================================================================
of the class                          when, and what for
====================================  ===========================================================================
``for_training(...)``                 makes it in place of the constructor, where the two ask for different things
``schedule_epochs(epochs, ...)``      the epochs that one learning-rate schedule has to cover; ``epochs`` by default
``checks``                            option -> function that raises ``ValueError`` where a value is out of range
``resolved``                          names of options whose text means something outside, such as a teacher's run
``in_epochs``                         names of options that count epochs, which a shortened training shortens with it
``plain_loss``                        true where its penalty reckons with the plain cross entropy as the loss
``why_not(model, ...)``               layer -> why it takes no part, for `filtersmith.why_not`
====================================  ===========================================================================

====================================  ===========================================================================
of the object                         when, and what for
====================================  ===========================================================================
``prepare(model)``                    before the optimizer is made: changes the network, or returns another one
``parameters()``                      what it trains beside the network's parameters
``attach(...)``                       once the optimizer is there; only then are those made that ask for a network
``penalty(...)``                      in each batch, with ``images``, ``outputs``, ``labels``: a term of the loss
``end_batch()``                       after each optimizer step
``step()``                            after each epoch; returns ``"pruned"``, ``"restored"``, ``"phase"`` or ``None``
``finish()``, else ``detach()``       after the last epoch
``state_dict``, ``load_state_dict``   to resume
``scheduler``, ``step_schedule()``    the schedule and one step of it, where it asked for ``scheduler`` to restart it
``timeline(epochs)``                  its phases, where it divides the training into some
``deployable``                        whether the network is complete just now
``leave_out_of(network)``             sets to 0, in a copy of the network or its average, what is left out just now
``network``                           what is deployed in place of the trained network
``parameters_kept``                   how many parameters the deployed network keeps, where it takes some away
====================================  ===========================================================================

A function ``f`` in place of a class changes the network when it is prepared; its options are its other parameters.
What a class would have as ``NAME``, its file has as ``NAME_f``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

GIVEN = ("model", "optimizer", "epochs", "scheduler", "held_out", "useful_epochs")
"""What a method is given by name; these are no options. So is ``seed``, which may be an option as well."""
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def maker(cls: Any) -> Callable[..., Any]:
    """What makes an object of a class for a training."""
    made: Callable[..., Any] = getattr(cls, "for_training", cls)
    return made


def of_class(cls: Any, name: str, default: Any = None) -> Any:
    """An attribute of a method's class; of a function ``f`` what its file has by the name ``NAME_f``."""
    beside = getattr(sys.modules.get(cls.__module__), f"{name}_{cls.__name__}", default)
    return getattr(cls, name, beside)


def asks_for(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function that can be given by name."""
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in _NAMED}


def option_defaults(cls: Any) -> dict[str, Any]:
    """The options that a method takes in a text, in order, and their defaults (`inspect.Parameter.empty`: none).

    Where `maker` hands options on to the constructor (``**options``), they are the constructor's, too.
    """
    made = maker(cls)
    own = asks_for(made)
    hands_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
    parameters = (asks_for(cls) if hands_on else {}) | own  # in the constructor's order
    return {name: parameter.default for name, parameter in parameters.items() if name not in GIVEN}


def needs_network(cls: Any) -> bool:
    """Whether a method is made for a network that is there, and not before."""
    return not inspect.isclass(cls) or bool({"model", "optimizer"} & asks_for(maker(cls)).keys())


def owns_schedule(cls: Any) -> bool:
    """Whether a method starts the learning-rate schedule by itself."""
    return "scheduler" in asks_for(maker(cls))


def call(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a function with those of the given things that it asks for."""
    wanted = asks_for(function)
    return function(**{name: value for name, value in given.items() if name in wanted})
