"""The plan of the house: who may import whom, and what a user sees. `python tests/layout.py` prints it in numbers."""

import ast
import importlib
import pkgutil
import subprocess
import sys

import pytest

import mlfem_jax
from tests.layout import ROOT, floors, imports, modules, room_imports, room_of

FLOORS = {
    1: {"compilation", "files", "gaze", "interrupts", "metrics", "parallel", "photos", "upsampling"},
    2: {"backbones", "data", "importance", "plot", "runs"},
    3: {"faithfulness", "fusion"},
    4: {"attribution"},
    5: {"engine"},
    6: {"facade", "scores", "training"},
    7: {"gallery"},
    8: {"cli", "report"},
}
NEVER = {
    "data": {"attribution", "backbones", "engine"},
    "backbones": {"data", "training"},
    "attribution": {"data", "metrics"},
    "training": {"attribution"},
}
PICTURES_AND_TERMINALS = {"tyro", "rich", "matplotlib", "jinja2"}
"""Libraries that only these may import: what is drawn, printed, or called from the command line."""
FOR_PEOPLE = (
    "cli",
    "gallery",
    "report",
    "plot",
    "data.prepared",
    "scores.config",
    "scores.run",
    "training.progress",
    "training.run",
)
PACKAGES = sorted(module.name for module in pkgutil.walk_packages(mlfem_jax.__path__, "mlfem_jax.") if module.ispkg)
USERS = """
    Backbone Forward Grid Method backbone_names batch_bytes explain fem from_equinox from_function from_haiku from_keras
    from_linen from_nnx fuse
    gaze_densities gaze_density importance_map layer_maps load_backbone map_batches method methods normalize
    observer_weights overlay place_map read_photo resize_photo sigma_px_of upsample
    attribution backbones data faithfulness gaze metrics scores training
""".split()


def facades():
    """Those packages that have a facade: a stub that names what other rooms may use."""
    return ["mlfem_jax", *(name for name in PACKAGES if (ROOT / name.replace(".", "/") / "__init__.pyi").exists())]


def test_every_room_is_on_its_floor_and_imports_only_lower_ones():
    floor_of = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
    rooms = room_imports()
    assert rooms.keys() == floor_of.keys()
    up = {(room, other) for room in rooms for other in rooms[room] if floor_of[other] >= floor_of[room]}
    assert up == set()
    assert floors(rooms).keys() == rooms.keys()  # no circle


def test_no_room_imports_what_it_must_never():
    rooms = room_imports()
    assert rooms["metrics"] == set()
    assert {(room, other) for room, others in NEVER.items() for other in others & rooms[room]} == set()


def test_a_circle_has_no_floor():
    assert floors({"a": {"b"}, "b": {"a"}, "c": set(), "d": {"a"}}) == {"c": 1}


def test_the_library_imports_no_script():
    trees = modules()
    assert [name for name, tree in trees.items() for other in imports(tree) if other.split(".")[0] in
            ("train", "eval", "examples", "tests")] == []  # fmt: skip


def test_no_script_imports_another():
    files = {name: tree for folder in ("train", "eval", "examples") for name, tree in modules(folder=folder).items()}
    scripts = {name for name, tree in files.items() if "__name__ == '__main__'" in ast.unparse(tree)}
    assert {"train.fusion", "eval.score", "examples.demo", "eval.benchmarks.reckon"} <= scripts
    taken = {(name, other.rpartition(".")[0]) for name, tree in files.items() for other in imports(tree)}
    assert {(name, other) for name, other in taken if other in scripts} == set()


@pytest.mark.parametrize("library", sorted(PICTURES_AND_TERMINALS))
def test_pictures_and_terminals_stay_at_the_edge(library):
    users = {name.removeprefix("mlfem_jax.") for name, tree in modules().items()
             if library in {other.split(".")[0] for other in imports(tree)}}  # fmt: skip
    assert {user for user in users if not user.startswith(FOR_PEOPLE) and not user.endswith(".task")} == set()


def test_a_room_is_entered_by_its_facade():
    doors = {name.removeprefix("mlfem_jax.") for name in facades()}
    inside = []
    for name, tree in modules().items():
        for other in imports(tree):
            module = other.rpartition(".")[0].removeprefix("mlfem_jax.")
            if other.startswith("mlfem_jax.") and room_of(other) != room_of(name) and "." in module:
                inside += [(name, other)] if module not in doors else []
    for folder in ("train", "eval", "examples"):
        for name, tree in modules(folder=folder).items():
            found = {other.rpartition(".")[0].removeprefix("mlfem_jax.") for other in imports(tree)
                     if other.startswith("mlfem_jax.")}  # fmt: skip
            inside += [(name, module) for module in found if "." in module and module not in doors]
    assert inside == []


@pytest.mark.parametrize("name", facades())
def test_a_facade_shows_its_names_and_nothing_else(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    assert all(getattr(package, public) is not None for public in package.__all__)


@pytest.mark.parametrize("name", facades())
def test_no_module_bears_the_name_of_a_public_function(name):
    package = importlib.import_module(name)
    inside = {module.name for module in pkgutil.iter_modules(package.__path__)}
    shadowed = {public for public in set(package.__all__) & inside if callable(getattr(package, public))}
    assert shadowed == set()


def test_a_user_sees_what_a_user_needs():
    assert sorted(dir(mlfem_jax)) == sorted(USERS)
    top = {module.name for module in pkgutil.iter_modules(mlfem_jax.__path__) if not module.ispkg}
    assert len(top) <= 10


def test_importing_the_library_is_light():
    """Neither pictures nor data sets are loaded before they are used."""
    script = (
        "import sys, mlfem_jax; print(sorted({'matplotlib', 'tensorflow_datasets', 'grain', 'jax'} & {*sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_annotations_are_for_users_type_checkers_too():
    assert (ROOT / "mlfem_jax" / "py.typed").exists()
