"""What is sent of a cache entry."""

import hashlib
from pathlib import Path

import pytest

from meshtui.cache.work import Cancelled, Work
from meshtui.deploy.kubernetes.sendable import sendable
from meshtui.domain.errors import InvalidInput
from tests.support.shelf import model_files, put_entry


def test_an_entry_is_sent_whole_with_the_hashes_that_it_has() -> None:
    entry = put_entry("org/tiny", {**model_files(), "sub/more.json": b"{}"})
    what = sendable(entry, Work())
    assert (what.model, what.name) == ("org/tiny", "org_2ftiny")
    paths = {file.path for file in what.files}
    assert paths == {"model/config.json", "model/model.safetensors", "model/sub/more.json",
                     "model_metadata.json", "checksums.json"}  # fmt: skip
    for file in what.files:
        content = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert file.size_bytes == len(content) and not file.is_damaged()
    assert what.size_bytes == sum(file.size_bytes for file in what.files)
    assert sendable(put_entry("org/tiny", model_files(2000)), Work()).digest != what.digest


def test_an_entry_without_checksums_is_hashed() -> None:
    entry = put_entry("org/tiny")
    digest = sendable(entry, Work()).digest
    (entry.folder / "checksums.json").unlink()
    work = Work()
    assert sendable(entry, work).digest == digest
    assert work.done_bytes == work.total_bytes and work.total_bytes
    work.cancel()
    with pytest.raises(Cancelled):
        sendable(entry, work)


@pytest.mark.parametrize(("change", "words"), [("unlink", "is missing"), ("add", "was added")])
def test_an_entry_that_is_not_what_was_stored_is_refused(change: str, words: str) -> None:
    entry = put_entry("org/tiny")
    if change == "unlink":
        (entry.model_dir / "config.json").unlink()
    else:
        Path(entry.model_dir / "new").write_bytes(b"new")
    with pytest.raises(InvalidInput, match=words) as error:
        sendable(entry, Work())
    assert "meshtui cache verify org/tiny" in (error.value.hint or "")
