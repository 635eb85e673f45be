"""A reader of pickles that cannot run anything: it knows the opcodes of containers and a table of names."""

import dataclasses
import io
import pickletools
from collections.abc import Callable, Mapping

from mlfem_jax.files import OPCODES, shown

_REFUSED = (
    "refused, and nothing in it was run. A whole model or training state? Save its weights: "
    "torch.save(model.state_dict(), file)"
)
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], object]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = frozenset(
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)


@dataclasses.dataclass(frozen=True, eq=False)
class Inert:
    """Stands for an object that is left out: whatever is done to it gives it back unchanged.

    Attributes:
        name: the object's class or function.
    """

    name: str = "object"

    def __call__(self, *_: object) -> "Inert":
        """Itself."""
        return self


def read_pickle(
    stream: io.BytesIO, names: Mapping[str, object], persistent: Callable[[object], object] | None = None
) -> object:
    """The one pickled object at the stream's position; the stream is left just behind it.

    `pickletools` takes the bytes apart into opcodes, and this function is the stack machine. It imports
    nothing, sets no attribute and calls only the functions of `names`: a pickle can name `os.system`, but not
    reach it.

    Args:
        stream: bytes in memory (so that a declared length cannot allocate more than is there).
        names: what a global stands for, by "module.name": a function, which the pickle may call, or a value.
        persistent: what a persistent id stands for; without it none is accepted.

    Returns:
        The object, of dicts, lists, tuples, numbers, strings and what `names` and `persistent` return.

    Raises:
        ValueError: a global that `names` lacks, an opcode that tensors do not need, or damaged bytes.
    """
    machine = _Machine(names, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return machine.pop()
    except (LookupError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"expected a whole pickle, got a damaged one ({type(error).__name__}: {shown(error)})"
        ) from error


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Mapping[str, object], persistent: Callable[[object], object] | None) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}
        self.steps = 0

    def step(self, opcode: str, argument: object) -> None:
        """Does one opcode."""
        self.spend(1)
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.stack.append(_MARK)
            case "GLOBAL":
                self.stack.append(self.find(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                # Of another type a name may print without end: a few bytes of pickle hold a list of 2**60 items.
                name, module = (_check_type(self.pop(), str) for _ in range(2))
                self.stack.append(self.find(f"{module}.{name}"))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(str(argument))] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[int(str(argument))])
            case "REDUCE":
                arguments, function = _check_type(self.pop(), tuple), self.pop()
                self.spend(10 * sum(len(part) for part in arguments if isinstance(part, list | tuple)))
                self.stack.append(_call(function, arguments))
            case "NEWOBJ":
                self.pop()
                _check_type(self.top(), Inert)
            case "BINPERSID" if self.persistent is not None:
                self.stack.append(self.persistent(self.pop()))
            case "BUILD":
                # An OrderedDict's attributes (`_metadata` of a state dict) are dropped: nothing is ever set.
                self.pop()
                _check_type(self.top(), (dict, Inert))
            case _ if opcode in _LITERALS:
                self.stack.append(argument)
            case _:
                self.container(opcode)

    def container(self, opcode: str) -> None:
        """Does one opcode that makes or fills a dict, list or tuple."""
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLE_LENGTHS:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLE_LENGTHS[opcode])])))
        elif opcode == "TUPLE":
            self.stack.append(tuple(self.pop_to_mark()))
        elif opcode in ("APPEND", "APPENDS"):
            items = self.pop_to_mark() if opcode == "APPENDS" else [self.pop()]
            target = _check_type(self.top(), (list, Inert))
            if isinstance(target, list):
                target.extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self.pop_to_mark() if opcode == "SETITEMS" else [self.pop(), self.pop()][::-1]
            target = _check_type(self.top(), (dict, Inert))
            if isinstance(target, dict):
                _set_items(target, zip(items[::2], items[1::2], strict=True))
        elif opcode == "EMPTY_SET":
            self.stack.append(Inert("set"))
        elif opcode in ("ADDITEMS", "FROZENSET"):
            self.pop_to_mark()
            if opcode == "FROZENSET":
                self.stack.append(Inert("frozenset"))
        else:
            raise ValueError(f"expected tensors in containers, got the pickle opcode {opcode}; {_REFUSED}")

    def find(self, name: str) -> object:
        """What a global stands for."""
        if name not in self.names:
            raise ValueError(f"expected tensors in containers, got the Python object {shown(name)!r}; {_REFUSED}")
        return self.names[name]

    def spend(self, steps: int) -> None:
        """Counts what the pickle has made us do."""
        self.steps += steps
        if self.steps > OPCODES:
            raise ValueError(f"expected a pickle of at most {OPCODES} steps, got a longer one")

    def top(self) -> object:
        """The top of the stack, which stays there."""
        if self.stack[-1] is _MARK:
            raise ValueError("expected a whole pickle, got a damaged one (a mark where a value belongs)")
        return self.stack[-1]

    def pop(self) -> object:
        """The top of the stack, taken off."""
        top = self.top()
        self.stack.pop()
        return top

    def pop_to_mark(self) -> list[object]:
        """Everything above the last mark, taken off with it."""
        items = []
        while self.stack[-1] is not _MARK:
            items.append(self.stack.pop())
        self.stack.pop()
        return items[::-1]


def ordered_dict(pairs: object = ()) -> dict[object, object]:
    """A dict for a pickled `collections.OrderedDict(pairs)`."""
    result: dict[object, object] = {}
    _set_items(result, _check_type(pairs, (list, tuple)))
    return result


def _call(function: object, arguments: tuple) -> object:
    # Whatever is callable on the stack came out of the table of names.
    if not callable(function):
        raise ValueError(f"expected tensors in containers, got a call of a {type(function).__name__}; {_REFUSED}")
    return function(*arguments)


def _set_items(target: dict, items) -> None:
    for key, value in items:
        # A deeply nested tuple would overflow the C stack when hashed: such a key is told from others, and no more.
        target[key if isinstance(key, str | int | float) else Inert("key")] = value


def _check_type(value, expected):
    if not isinstance(value, expected):
        raise ValueError(f"expected a whole pickle, got a damaged one (a {type(value).__name__} where it cannot be)")
    return value
