"""What a scheduled program costs: its kernels in order, and what each of them reads, writes and multiplies."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

from eval.benchmarks.compiled.hlo import Hlo, HloArray, Instruction

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
_FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast after-all opt-barrier partition-id replica-id domain".split()
)
_CALLS = {"while": ("body",), "call": ("to_apply",), "conditional": ("branch_computations", "true_computation",
                                                                     "false_computation")}  # fmt: skip
_SLICES = ("slice", "dynamic-slice", "gather")
_FILTER_CONVOLUTIONS = ("__cudnn$convForward", "__cudnn$convBiasActivationForward")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One step of the program.

    Attributes:
        name: of its instruction.
        kind: its opcode, or the library function that it calls.
        source: where in the traced function it comes from.
        times: how often it runs: once for each turn of the loops around it.
        reads: the arrays that it reads, and how many bytes of each in the device's large memory.
        writes: likewise.
        flops: of its products and convolutions, a multiplication and an addition counted as two.
        cycles: XLA's own estimate; None where it gives none.
    """

    name: str
    kind: str
    source: str
    times: int
    reads: tuple[tuple[HloArray, int], ...]
    writes: tuple[tuple[HloArray, int], ...]
    flops: float
    cycles: int | None

    @property
    def bytes(self) -> int:
        """Read and written, each time that it runs."""
        return sum(count for _, count in self.reads + self.writes)

    def bound_s(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Seconds that all its runs take at least, where nothing else runs beside it."""
        return self.times * max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def read_kernels(hlo: Hlo) -> list[Kernel]:
    """The kernels of a program in the order in which they run, those of loops once."""
    return list(_kernels(hlo, hlo.entry, 1))


def count_loops(hlo: Hlo) -> tuple[int, int]:
    """(loops, those of them whose number of turns the program does not tell: their kernels are counted once)."""
    loops = [one for computation in hlo.computations.values() for one in computation.values() if one.opcode == "while"]
    return len(loops), sum(_turns(loop) is None for loop in loops)


def count_collectives(hlo: Hlo) -> dict[str, int]:
    """How many collectives there are of each name; gathers of which arrays, since an activation must not be.

    A TPU's compiler cuts one into steps that it fuses with other work: they count as one, by its channel.
    """
    found: dict[str, str] = {}
    for one in (one for computation in hlo.computations.values() for one in computation.values()):
        name = next((name for name in _COLLECTIVES if one.opcode.startswith(name)), "")
        if name and not one.opcode.endswith("-done"):
            given = one.arrays[len(one.operands) if one.opcode.endswith("-start") else 0 :]
            of = " and ".join(f"{array.dtype}[{','.join(map(str, array.dims))}]" for array in given)
            channel = re.search(r"channel_id=(\d+)", one.text)
            found[channel[1] if channel else one.name] = f"{name} of {of}" if name == "all-gather" else name
    return dict(collections.Counter(found.values()))


def _kernels(hlo: Hlo, computation: str, times: int) -> Iterator[Kernel]:
    known = hlo.computations[computation]
    for one in known.values():
        if one.opcode in _CALLS:
            for called in one.called(*_CALLS[one.opcode]):
                yield from _kernels(hlo, called, times * ((_turns(one) or 1) if one.opcode == "while" else 1))
        elif one.opcode not in _FREE and not one.opcode.endswith(("-done", "-update")):
            target = re.search(r'custom_call_target="([^"]+)"', one.text)
            source = re.search(r'op_name="((?:[^"\\]|\\.)*)"', one.text)
            cycles = re.search(r'"estimated_cycles":"(\d+)"', one.text)
            yield Kernel(
                name=one.name,
                kind=target[1] if target else one.opcode,
                source=source[1] if source else "",
                times=times,
                reads=_reads(hlo, one, known),
                writes=_writes(hlo, one),
                flops=_flops(hlo, one, known),
                cycles=int(cycles[1]) if cycles else None,
            )


def _turns(loop: Instruction) -> int | None:
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text)
    return int(known[1]) if known else None


def _reads(hlo: Hlo, one: Instruction, known: Mapping[str, Instruction]) -> tuple[tuple[HloArray, int], ...]:
    """Of an operand that only a slice is looked at, the slice."""
    found = []
    for place, name in enumerate(one.operands):
        for array in known[name].arrays:
            count = array.bytes
            if one.opcode == "fusion":
                count = min(count, _touched(hlo, one.called("calls")[0], str(place), array))
            elif one.opcode.removesuffix("-start") in _SLICES and place == 0:
                count = min(count, _slice_bytes(one, array))
            found.append((array, count))
    return tuple(found)


def _slice_bytes(one: Instruction, array: HloArray) -> int:
    """Bytes of an array that a slice of it has, wherever that goes."""
    result = one.arrays[len(one.operands) if one.opcode.endswith("-start") else 0]
    return result.size * array.bytes // max(array.size, 1)


def _touched(hlo: Hlo, computation: str, place: str, array: HloArray) -> int:
    """Bytes that a fused computation reads of its parameter number `place`."""
    inside = hlo.computations[computation]
    parameter = next(one.name for one in inside.values() if one.opcode == "parameter" and one.operands == (place,))
    return _touched_by_users(hlo, inside, parameter, array)


def _touched_by_users(hlo: Hlo, inside: Mapping[str, Instruction], name: str, array: HloArray) -> int:
    total = 0
    for user in inside.values():
        if user.opcode == "parameter" or name not in user.operands:
            continue
        if user.opcode in _SLICES and name == user.operands[0]:
            total += _slice_bytes(user, array)
        elif user.opcode == "dynamic-update-slice" and name == user.operands[0]:
            continue  # updated in place
        elif user.opcode in ("bitcast", "convert") and not user.root:
            total += _touched_by_users(hlo, inside, user.name, array)
        elif user.opcode == "fusion":
            places = (place for place, operand in enumerate(user.operands) if operand == name)
            total += sum(_touched(hlo, user.called("calls")[0], str(place), array) for place in places)
        else:
            return array.bytes
    return total


def _writes(hlo: Hlo, one: Instruction) -> tuple[tuple[HloArray, int], ...]:
    """What it gives; of an array that is updated in place, the update."""
    arrays = one.arrays
    if one.opcode == "copy-start":
        arrays = arrays[:1]
    elif one.opcode.endswith("-start") and not one.opcode.startswith("all-reduce"):
        arrays = arrays[len(one.operands) : len(one.operands) + 1]  # the operands come first, and then the result
    updates = _updates(hlo, one) if one.opcode == "fusion" else {}
    return tuple((array, updates.get(place, array.bytes)) for place, array in enumerate(arrays))


def _updates(hlo: Hlo, fusion: Instruction) -> dict[int, int]:
    """Place among the results to bytes, of results that a fusion updates in place."""
    inside = hlo.computations[fusion.called("calls")[0]]
    root = next(one for one in inside.values() if one.root)
    results = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    found = {}
    for place, result in enumerate(results):
        while result.opcode == "bitcast":
            result = inside[result.operands[0]]
        if result.opcode == "dynamic-update-slice" and not fusion.arrays[place].on_chip:
            found[place] = inside[result.operands[1]].arrays[0].bytes
    return found


def _flops(hlo: Hlo, one: Instruction, known: Mapping[str, Instruction]) -> float:
    if one.opcode == "fusion":
        inside = hlo.computations[one.called("calls")[0]]
        return sum(_flops(hlo, part, inside) for part in inside.values())
    if one.opcode == "convolution" or any(f'"{name}"' in one.text for name in _FILTER_CONVOLUTIONS):
        operands = [known[name].arrays[0] for name in one.operands[:2]]
        return 2.0 * one.arrays[0].size * _kernel_elements(one, operands[1]) * _share_inside(one, operands[0])
    contracted = re.search(r'lhs_contracting_dim(?:s=|ensions":)[{\[]([\d,"]*)', one.text)
    if one.opcode == "dot" or (one.opcode == "custom-call" and contracted):
        left = known[one.operands[0]].arrays[0].dims
        places = re.findall(r"\d+", contracted[1]) if contracted else []
        return 2.0 * one.arrays[0].size * math.prod(left[int(place)] for place in places)
    return 0.0


def _kernel_elements(convolution: Instruction, kernel: HloArray) -> float:
    """Elements of the kernel that make one element of the result."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", convolution.text)
    features = kernel.dims[labels[1].index("o")] if labels else 1
    return kernel.size / max(features, 1)


def _share_inside(convolution: Instruction, inputs: HloArray) -> float:
    """Share of the kernel's elements, over all results, that meet an input: neither padding nor the hole of a dilation.

    A TPU's compiler writes products as convolutions whose kernels lie outside the input but for one element.
    """
    labels = re.search(r"dim_labels=(\w+)_\w+->(\w+)", convolution.text)
    window = re.search(r"window={([^}]*)}", convolution.text)
    if not labels or not window:
        return 1.0
    said = dict(pair.split("=") for pair in window[1].split())
    share = 1.0
    for axis, size in enumerate(map(int, said["size"].split("x"))):
        length, count = (
            dims[letters.index(str(axis))]
            for dims, letters in ((inputs.dims, labels[1]), (convolution.arrays[0].dims, labels[2]))
        )
        stride, spread, holes = (
            int(said[name].split("x")[axis]) if name in said else 1 for name in ("stride", "rhs_dilate", "lhs_dilate")
        )
        before = int(said["pad"].split("x")[axis].split("_")[0]) if "pad" in said else 0
        places = np.arange(count)[:, None] * stride + np.arange(size) * spread - before
        share *= ((places >= 0) & (places <= (length - 1) * holes) & (places % holes == 0)).mean()
    return share
