"""What the instruction that just runs is about: a condition that only checks, or ``isinstance``.

Of ``assert x.shape[1] == 3`` or ``if x.dim() != 4: raise`` one outcome goes on.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType

_SILENT = ("CACHE", "NOT_TAKEN", "TO_BOOL", "EXTENDED_ARG", "NOP")
_LEAVES_A_TRACE = ("STORE_", "DELETE_", "RETURN_", "YIELD_", "JUMP", "FOR_ITER", "SEND")
_CALLS = ("CALL", "PRECALL", "CALL_FUNCTION")


def outcome_that_goes_on(code: CodeType, at: int) -> bool | None:
    """The outcome of a condition with which the code goes on, where it raises with the other one.

    Args:
        code: that asks for the truth of a value.
        at: the instruction that asks, as ``frame.f_lasti``.

    Returns:
        ``None`` where the code goes on either way, or where it isn't certain.
    """
    number, instructions = _number(code, at), _instructions(code)
    if number is None:
        return None
    jump = instructions[number]
    if not jump.opname.startswith("POP_JUMP"):  # the comparison itself asks; the jump comes next
        number = _behind(instructions, number)
        jump = instructions[number] if number is not None else jump
    if number is None or not _is_condition(jump):
        return None
    on_true, on_false = _ways(code, number, jump)
    if on_true is None or on_false is None:
        return None
    if _raises(code, on_false, but=on_true):
        return True
    return False if _raises(code, on_true, but=on_false) else None


def calls_isinstance(code: CodeType, at: int) -> bool:
    """Whether an instruction is a call of ``isinstance``, and of no other function that looks at a class."""
    number, instructions = _number(code, at), _instructions(code)
    if number is None or instructions[number].opname not in _CALLS or instructions[number].arg != 2:
        return False
    start = number - (number > 0 and instructions[number - 1].opname == "PRECALL")
    pushed = 0
    for instruction in reversed(instructions[:start]):
        if "JUMP" in instruction.opname:
            return False
        pushed += dis.stack_effect(instruction.opcode, instruction.arg)
        if pushed >= 3 and instruction.opname != "PUSH_NULL":  # two arguments, and what is called
            return bool(instruction.argval == "isinstance")
    return False


def _raises(code: CodeType, start: int, but: int) -> bool:
    """Whether the code raises from here on, or after a further condition, which else leads to where ``but`` does."""
    instructions = _instructions(code)
    for number in range(start, len(instructions)):
        instruction = instructions[number]
        if instruction.opname == "RAISE_VARARGS":
            return True
        if _is_condition(instruction):
            ways = [_skipped(instructions, way) for way in _ways(code, number, instruction)]
            go_on = _skipped(instructions, but)
            others = [way for way in ways if way != go_on]
            return len(others) == 1 and others[0] is not None and _raises(code, others[0], but)
        if instruction.opname.startswith(_LEAVES_A_TRACE):
            return False
    return False


def _is_condition(instruction: dis.Instruction) -> bool:
    return instruction.opname.startswith("POP_JUMP") and "NONE" not in instruction.opname


def _ways(code: CodeType, number: int, jump: dis.Instruction) -> tuple[int | None, int | None]:
    """Where the code goes on if the condition is true, and if it is false."""
    there, here = _number(code, int(jump.argval)), number + 1
    return (there, here) if jump.opname.endswith("TRUE") else (here, there)


def _behind(instructions: tuple[dis.Instruction, ...], number: int) -> int | None:
    return _skipped(instructions, number + 1)


def _skipped(instructions: tuple[dis.Instruction, ...], number: int | None) -> int | None:
    """The next instruction that does something."""
    while number is not None and number < len(instructions) and instructions[number].opname in _SILENT:
        number += 1
    return number if number is not None and number < len(instructions) else None


def _number(code: CodeType, offset: int) -> int | None:
    return next((n for n, each in enumerate(_instructions(code)) if each.offset == offset), None)


@lru_cache(maxsize=256)
def _instructions(code: CodeType) -> tuple[dis.Instruction, ...]:
    return tuple(dis.get_instructions(code))
