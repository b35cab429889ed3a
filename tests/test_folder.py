"""The dataset folder: files appear whole or not at all, and one process writes at a time."""

import errno
import os
import subprocess
import sys
from uuid import uuid4

import pytest

from pipeline.folder import Folder, UserError, is_local, locate, open_input, sole_writer


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    return Folder(str(tmp_path / "data set ü") if request.param == "disk" else f"memory://{uuid4().hex}/data")


def all_names(folder, directory):
    """List everything in a directory, temporary files included."""
    system, path = locate(folder.path(directory))
    return sorted(name.rpartition("/")[2] for name in system.ls(path, detail=False)) if system.exists(path) else []


def write_half(folder, name, error):
    with folder.create(name) as stream:
        stream.write(b"half" * 100_000)
        raise error


def test_a_file_appears_when_it_is_complete(folder):
    with folder.create("a/b/file.bin") as stream:
        stream.write(b"one")
        assert folder.names("a/b") == []
        stream.write(b"two")
    assert folder.names("a/b") == ["file.bin"]
    assert all_names(folder, "a/b") == ["file.bin"]
    with folder.open("a/b/file.bin") as stream:
        assert stream.read() == b"onetwo"
        stream.seek(3)
        assert stream.read() == b"two"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(folder, error):
    with pytest.raises(error):
        write_half(folder, "a/file.bin", error)
    assert all_names(folder, "a") == []


def test_an_exception_keeps_what_was_there(folder):
    folder.write_text("a/file.txt", "old")
    with pytest.raises(RuntimeError):
        write_half(folder, "a/file.txt", RuntimeError)
    assert folder.read_text("a/file.txt") == "old"
    assert all_names(folder, "a") == ["file.txt"]
    folder.write_text("a/file.txt", "new")
    assert folder.read_text("a/file.txt") == "new"


def test_two_writers_of_one_name_leave_one_whole_file(folder):
    with folder.create("a/file.bin") as first, folder.create("a/file.bin") as second:
        first.write(b"1" * 1000)
        second.write(b"2" * 2000)
    assert folder.read_text("a/file.bin") == "1" * 1000
    assert all_names(folder, "a") == ["file.bin"]


def test_text_and_json_come_back(folder):
    folder.write_text("t", "ü\n\0\U0001f9a9")
    assert folder.read_text("t") == "ü\n\0\U0001f9a9"
    folder.write_json("j", {"b": [1, None], "a": "ü"})
    assert folder.read_json("j") == {"a": "ü", "b": [1, None]}
    assert folder.read_text("j") == '{"a": "ü", "b": [1, null]}\n'
    assert folder.read_text("missing") is None
    assert folder.read_json("missing/too") is None


def test_names_are_sorted_and_finished(folder):
    assert folder.names("none") == []
    for name in ("b", "a", "c.parquet"):
        folder.write_text(f"d/{name}", name)
    folder.write_text("d/.a.0123.tmp", "left by a kill")
    assert folder.names("d") == ["a", "b", "c.parquet"]
    assert folder.names("") == ["d"]


def test_removing_is_no_error_twice(folder):
    folder.write_text("d/a", "a")
    folder.remove("d/a")
    folder.remove("d/a")
    folder.remove("never/there")
    assert folder.names("d") == []


def test_leftovers_of_a_kill_are_swept(folder):
    folder.write_text("d/.part.0123.tmp", "half")
    folder.write_text("d/part", "whole")
    folder.remove_leftovers("d")
    folder.remove_leftovers("never")
    assert all_names(folder, "d") == ["part"]


def test_an_unknown_file_system_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"^nosuch://bucket/x: .*[Pp]rotocol"):
        locate("nosuch://bucket/x")


def test_paths_and_urls_name_the_same_disk(tmp_path):
    system, path = locate(f"file://{tmp_path}/a b")
    assert is_local(system)
    assert path == f"{tmp_path}/a b"
    assert locate(f"{tmp_path}/x/../a b/") == (system, f"{tmp_path}/a b")
    assert not is_local(locate("memory://x")[0])
    with pytest.raises(FileNotFoundError), open_input(str(tmp_path / "none")):
        pass


HOLD = """
import sys
from pipeline.folder import Folder, sole_writer
with sole_writer(Folder(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    root = str(tmp_path / "data")
    command = [sys.executable, "-c", HOLD, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, sole_writer(Folder(root)):
            pass
        assert str(caught.value) == f"{root}: in use by process {other.pid}; wait for it or give another --out"
        other.kill()
        other.wait()
    with sole_writer(Folder(root)):
        assert Folder(root).read_text("work/lock") == f"process {os.getpid()}"
    with sole_writer(Folder(root)):
        pass


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError) as caught:
            Folder(str(root)).read_text("config.toml")
        assert str(caught.value) == f"{root}: is or lies in a file; give a folder"
        with pytest.raises(UserError, match=r"^\S+: (Not a directory|File exists)$"), sole_writer(Folder(str(root))):
            pass


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_writer_in_one_line(tmp_path, full):
    message = f"^{tmp_path}: {os.strerror(full)}; the same command goes on from here$"
    with pytest.raises(UserError, match=message), sole_writer(Folder(str(tmp_path))):
        raise OSError(full, os.strerror(full), "some/file")
    with pytest.raises(PermissionError), sole_writer(Folder(str(tmp_path))):
        raise PermissionError(errno.EACCES, "no")


def test_object_stores_have_no_lock():
    folder = Folder(f"memory://{uuid4().hex}")
    with sole_writer(folder), sole_writer(folder):
        assert folder.names("work") == []
