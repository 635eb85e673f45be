"""The house in numbers: `python tests/layout.py [ROOT]` prints its files, functions, rooms, floors and circles.

A room is a package or a top-level module of `mlfem_jax`. A room's floor is one above the highest room that it imports.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "mlfem_jax"
VERSION = f"{PACKAGE}.__version__"


def modules(root: Path = ROOT, folder: str = PACKAGE) -> dict[str, ast.Module]:
    """Dotted name to syntax tree of every module in a folder; that of a package is the package's."""
    files = sorted((root / folder).rglob("*.py"))
    names = (".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files)
    return {name: ast.parse(file.read_text()) for name, file in zip(names, files, strict=True)}


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names of the modules, and of what is taken from them, that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """The room of a module, or of what is imported: the word after the package's name; "facade" for the package."""
    words = name.split(".")
    return words[1] if len(words) > 1 and words[1][:1] != "_" else "facade"


def room_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Each room, and the rooms that it imports; the version, which the facade holds, may be taken from anywhere."""
    trees = modules(root)
    rooms: dict[str, set[str]] = {room_of(name): set() for name in trees}
    for name, tree in trees.items():
        found = {room_of(other) for other in imports(tree) if other.startswith(PACKAGE) and other != VERSION}
        rooms[room_of(name)] |= {room if room in rooms else "facade" for room in found} - {room_of(name)}
    return rooms


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """Each room's floor, from 1; rooms of a circle, and those above them, have none."""
    placed: dict[str, int] = {}
    while ready := [room for room in rooms if room not in placed and rooms[room] <= placed.keys()]:
        placed |= {room: 1 + max((placed[below] for below in rooms[room]), default=0) for room in ready}
    return placed


def _lines(root: Path) -> tuple[list[int], list[int]]:
    """Lines of every file, and of every function's body without its docstring."""
    files = [len(file.read_text().splitlines()) for file in (root / PACKAGE).rglob("*.py")]
    bodies = []
    for tree in modules(root).values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                bodies.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
    return files, bodies


def main(root: Path) -> None:
    """Prints the numbers."""
    files, bodies = _lines(root)
    rooms = room_imports(root)
    placed = floors(rooms)
    print(f"files: {len(files)}, median {statistics.median(files):g} lines, largest {max(files)}")
    print(f"functions: {len(bodies)}, median {statistics.median(bodies):g} lines of body, largest {max(bodies)}")
    print(f"rooms: {len(rooms)}, imports between them: {sum(map(len, rooms.values()))}")
    print(f"rooms in a circle or above one: {', '.join(sorted(rooms.keys() - placed.keys())) or 'none'}")
    for floor in range(1, max(placed.values()) + 1):
        print(f"floor {floor}: {', '.join(sorted(room for room in placed if placed[room] == floor))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
