"""A scheduled XLA program, read from its text: computations of instructions, each with the arrays that it gives."""

import dataclasses
import math
import re
from collections.abc import Mapping

_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_BITS = {"pred": 8, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class HloArray:
    """An array of the program.

    Attributes:
        dtype: XLA's name, such as "bf16".
        dims: its sizes.
        on_chip: it lies in another memory than the device's large one: a TPU's vector memory.
    """

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """In the device's large memory, without what its tiles are filled up with; 0 on chip."""
        return 0 if self.on_chip else self.size * element_bits(self.dtype) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: unique in the program.
        arrays: what it gives; several where it is a tuple.
        opcode: such as "fusion".
        operands: names of instructions of the same computation.
        text: all that stands behind the opcode.
        root: it is what the computation returns.
    """

    name: str
    arrays: tuple[HloArray, ...]
    opcode: str
    operands: tuple[str, ...]
    text: str
    root: bool

    def called(self, *keys: str) -> tuple[str, ...]:
        """Names of the computations that an attribute of one of these names calls."""
        found = []
        for key in keys:
            for one in re.findall(rf"\b{key}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.text):
                found += re.findall(r"[\w.\-]+", "".join(one))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Hlo:
    """A program.

    Attributes:
        entry: name of the computation that runs.
        computations: name to instructions by name, in the order in which they run.
    """

    entry: str
    computations: Mapping[str, Mapping[str, Instruction]]


def element_bits(dtype: str) -> int:
    """Bits of an element: "bf16" has 16.

    Example:
        >>> element_bits("f8e4m3fn"), element_bits("pred")
        (8, 8)
    """
    digits = re.search(r"\d+", dtype)
    return _BITS.get(dtype, int(digits[0]) if digits else 8)


def arrays_in(text: str) -> tuple[HloArray, ...]:
    """The arrays of a shape, those of a tuple in order.

    Example:
        >>> arrays_in("(bf16[8,4]{1,0:T(8,128)S(1)}, u32[]{:S(2)})")[0]
        HloArray(dtype='bf16', dims=(8, 4), on_chip=True)
    """
    return tuple(
        HloArray(dtype, tuple(int(size) for size in dims.split(",") if size), "S(" in layout)
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def read_hlo(text: str) -> Hlo:
    """The program in the text of a compiled function, `compiled.as_text()`.

    Raises:
        ValueError: there is no entry computation.
    """
    entry, computations, current = None, {}, {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif start := _INSTRUCTION.match(line):
            current[start[2]] = _instruction(start[2], line[start.end() :], root=bool(start[1]))
    if entry is None:
        raise ValueError(f"text: expected the program of a compiled function, got {text[:60]!r}")
    return Hlo(entry, computations)


def _instruction(name: str, text: str, *, root: bool) -> Instruction:
    shape_end = _closing(text) if text.startswith("(") else text.index(" ")
    opcode, rest = text[shape_end:].strip().split("(", 1)
    end = _closing("(" + rest) - 1
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[:end]))
    if opcode in ("parameter", "constant"):
        operands = (rest[: end - 1],) if opcode == "parameter" else ()
    return Instruction(name, arrays_in(text[:shape_end]), opcode, operands, rest[end:], root)


def _closing(text: str) -> int:
    """Where the parenthesis that the text starts with is closed, plus one."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"text: expected balanced parentheses, got {text[:60]!r}")
