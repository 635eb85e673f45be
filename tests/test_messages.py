"""Errors of bad input read `NAME: expected ..., got ...`: what was given, what was expected, what was found."""

import ast

from tests.layout import modules

BAD_INPUT = {"ValueError", "TypeError", "FileNotFoundError", "FileExistsError", "MemoryError"}
FOLDERS = ("mlfem_jax", "eval", "train", "examples")

# Modules that read one file, whose errors leave through a block that puts its name before them.
READERS = (
    "mlfem_jax.backbones.files.",
    "mlfem_jax.files.hdf5_file",
    "mlfem_jax.files.limits",
    "mlfem_jax.files.npz_file",
    "mlfem_jax.files.zip_file",
    "mlfem_jax.photos",
    "mlfem_jax.data.releases.mat_worker",
    "mlfem_jax.data.decode",
)


def constant_parts(message):
    """What a string says whatever its values are, with {} for each of them; None for anything but a string."""
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return message.value
    if isinstance(message, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in message.values)
    return None


def messages(tree):
    """(line, constant parts) of each error of bad input that is raised with a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            text = constant_parts(node.exc.args[0]) if node.exc.args else ""
            if node.exc.func.id in BAD_INPUT and text is not None:
                yield node.lineno, text


def in_form(text):
    """Whether it names something, then says what was expected, then what was got."""
    name, _, rest = text.partition(": ")
    _, expected, found = rest.partition("expected ")
    return bool(name and expected and ", got " in found)


def test_the_form_is_told_from_others():
    assert in_form("k: expected a number, got {}") and in_form("{}: line {}: expected {}, got {}; try another")
    for text in ("", "expected a number, got {}", "k must be above 0, got {}", "k: expected a number, found {}",
                 "k: got {}, expected a number", "{}: no such file"):  # fmt: skip
        assert not in_form(text)


def test_errors_name_what_was_expected_and_what_was_got():
    seen, wrong = 0, []
    for folder in FOLDERS:
        for name, tree in modules(folder=folder).items():
            for line, text in messages(tree):
                seen += 1
                whole = f"FILE: {text}" if name.startswith(READERS) else text
                wrong += [] if in_form(whole) else [f"{name}:{line}: {text}"]
    assert seen > 300 and not wrong, "\n".join(wrong)
