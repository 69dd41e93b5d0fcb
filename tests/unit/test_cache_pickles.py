"""What a pickle would import is told without loading it."""

import collections
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest

from meshtui.cache.pickles import foreign_imports


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def saved(tmp_path: Path, data: bytes, *, archive: bool = False) -> Path:
    path = tmp_path / "pytorch_model.bin"
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", data)
            file.writestr("archive/data/0", bytes(64))
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("archive", [False, True])
def test_a_call_of_the_shell_is_named(tmp_path: Path, protocol: int, archive: bool) -> None:
    path = saved(tmp_path, pickle.dumps({"w": Evil()}, protocol), archive=archive)
    assert foreign_imports(path) == [f"{os.system.__module__}.system"]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_import_nothing_foreign(tmp_path: Path, protocol: int) -> None:
    state = collections.OrderedDict(weight=[1.0, 2.0], name="x")
    assert foreign_imports(saved(tmp_path, pickle.dumps(state, protocol))) == []


def test_an_import_behind_the_first_pickle_is_found(tmp_path: Path) -> None:
    data = pickle.dumps([1]) + pickle.dumps(Evil())
    assert foreign_imports(saved(tmp_path, data)) == [f"{os.system.__module__}.system"]


def test_names_that_only_seem_to_be_on_the_stack_are_not_believed(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()

    # What is imported is os.system: the harmless names are popped before.
    hidden = (
        b"\x80\x04" + text("os") + text("system") + text("collections") + text("OrderedDict")
        + pickle.POP + pickle.POP + pickle.STACK_GLOBAL + pickle.STOP
    )  # fmt: skip
    assert [op.name for op, *_ in pickletools.genops(hidden)][-2] == "STACK_GLOBAL"
    assert foreign_imports(saved(tmp_path, hidden)) == ["?"]


@pytest.mark.parametrize("data", [b"not a pickle", b"PK\x03\x04broken", b"\x80\x04\x95"])
def test_what_cannot_be_read_is_not_called_harmless(tmp_path: Path, data: bytes) -> None:
    assert foreign_imports(saved(tmp_path, data)) == ["?"]


def test_an_empty_file_imports_nothing(tmp_path: Path) -> None:
    assert foreign_imports(saved(tmp_path, b"")) == []
