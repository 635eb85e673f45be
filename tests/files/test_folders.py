"""A walk follows links, ends in a circle of them, and names everything that it leaves out."""

import os

import pytest

from mlfem_jax.cli import main
from mlfem_jax.files import folders
from mlfem_jax.files.errors import printable
from mlfem_jax.files.folders import walk
from mlfem_jax.gallery.find import find_photos
from mlfem_jax.photos import read_photo
from tests.data.release_files import write_image


@pytest.fixture
def tree(tmp_path):
    """Photographs here and behind links, links in a circle and to nowhere, a pipe, and what is no photograph."""
    here, there = tmp_path / "here", tmp_path / "there"
    for path in (here / "a.jpg", here / "sub/b.PNG", here / "c.heic", here / ".hidden.jpg", there / "deep/d.avif"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (here / "day1").symlink_to(there)
    (there / "deep/back").symlink_to(here)
    (here / "e.jpg").symlink_to(there / "deep/d.avif")
    (here / "gone.jpg").symlink_to(tmp_path / "nothing")
    (here / "again").symlink_to(here / "again")
    (here / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(here / "pipe.jpg")
    return here


def names(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_links_are_followed_and_everything_left_out_is_named(tree):
    found = walk(tree, {".jpg", ".png", ".avif"})
    assert names(tree, found.files) == ["a.jpg", "day1/deep/d.avif", "e.jpg", "sub/b.PNG"]
    assert names(tree, found.folders) == [".", "day1", "day1/deep", "sub"]
    assert {kind: names(tree, paths) for kind, paths in found.left_out.items()} == {
        ".heic files (left out)": ["c.heic"],
        folders.HIDDEN: [".hidden.jpg"],
        folders.NOWHERE: ["again", "gone.jpg"],
        folders.SPECIAL: ["pipe.jpg", "zero.jpg"],
        folders.TWICE: ["day1/deep/back"],
    }


def test_a_flat_walk_names_the_subfolders_and_unwanted_ones_are_passed_over(tree):
    flat = walk(tree, {".jpg"}, deep=False)
    assert names(tree, flat.files) == ["a.jpg", "e.jpg"]
    assert names(tree, flat.left_out[folders.BELOW]) == ["day1", "sub"]
    assert names(tree, walk(tree, without=[tree / "sub", tree / "day1"]).folders) == ["."]


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert names(tree, walk(tree).left_out[folders.UNREADABLE]) == ["sub"]


def test_a_folder_that_is_linked_from_itself_is_found_where_it_lies(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "z/p.jpg").touch()
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert names(tmp_path, walk(tmp_path).files) == ["z/p.jpg"]


def test_photographs_behind_links_are_found_and_what_is_left_out_is_told(tree):
    told = []
    found = find_photos([tree], on_left_out=lambda *line: told.append(line))
    assert names(tree, found) == ["a.jpg", "e.jpg", "sub/b.PNG"]  # e.jpg and day1/deep/d.avif are one file
    assert (f"{tree}: 1 .heic files (left out), first c.heic", True) in told
    assert (f"{tree}: 2 {folders.NOWHERE}, first again", True) in told
    assert (f"{tree}: 2 {folders.SPECIAL}, first pipe.jpg", False) in told


def test_a_pattern_across_folders_ends_in_a_circle_of_links(tree):
    for name in "bcdefgh":  # 2 to the power of 40 paths for Python's own patterns
        (tree / f"loop_{name}").symlink_to(tree)
    assert names(tree, find_photos([tree / "**/*.PNG"])) == ["sub/b.PNG"]


def test_a_link_to_nowhere_is_named_whether_given_or_matched(tree):
    for argument in (tree / "gone.jpg", tree / "gon*.jpg"):
        assert names(tree, find_photos([argument])) == ["gone.jpg"]
    with pytest.raises(ValueError, match=r"gone\.jpg: expected an image file, got none: no such file"):
        read_photo(tree / "gone.jpg")


def test_a_pipe_is_refused_and_not_read(tree):
    with pytest.raises(ValueError, match=r"pipe\.jpg: expected a file, got a pipe"):
        read_photo(tree / "pipe.jpg")


def test_control_characters_and_undecodable_names_are_escaped():
    assert printable("a\x1b]0;x\x07\nb\u202e") == "a\\x1b]0;x\\x07\\nb\\u202e"
    assert printable(os.fsdecode(b"caf\xe9")) == "caf\\udce9"
    assert printable("été 中 é") == "été 中 é"


def test_no_control_character_of_a_name_reaches_the_terminal(tmp_path, capsys):
    write_image(tmp_path / "images/a.png")
    (tmp_path / "fixations.csv").write_text("image,observer,x,y\na,1,5,4\n\x1b[2Jb,1,2,3\n")
    strange = str(tmp_path / "\x1b[2J")
    assert main(["prepare", "folder", "--from", str(tmp_path), "--to", strange, "--sigma-px", "5"]) == 0
    assert main(["prepare", "osie", "--from", str(tmp_path / "\x1b[2Jgone"), "--to", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "\x1b[2J" not in told.err + told.out
    assert "first in \\x1b[2Jb" in told.out and "\\x1b[2Jgone: expected a folder" in told.err
