"""Files that are there whole or not at all."""

import pytest

from benchmark import files
from benchmark.files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "records" / "one.json"
    write_whole(path, "first")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "second")

    assert path.read_text() == "first"


@pytest.mark.parametrize(
    ("place", "kind"), [("dir", IsADirectoryError), ("file/one", NotADirectoryError), ("file/a/b", NotADirectoryError)]
)
def test_what_cannot_be_written_is_named_by_its_own_name(tmp_path, place, kind):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(kind) as refused:
        write_whole(tmp_path / place, "text")
    assert refused.value.filename == str(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "file"]
