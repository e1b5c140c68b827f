"""Committed tables: written from records, and refused where they are not what the records say."""

import pytest

from benchmark.errors import RecordError
from benchmark.report import committed

PAGE = "# Ours\n\n<!-- cdner table small -->\nold\n<!-- end -->\n\nThe end.\n"


def test_tables_are_written_and_then_hold(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(PAGE)

    written = committed.write("small", tmp_path, [], [page])
    committed.check("small", tmp_path, [], [page])

    assert sorted(p.name for p in written) == ["README.md", "table.csv", "table.md"]
    assert page.read_text().endswith("<!-- end -->\n\nThe end.\n")


def test_a_table_that_was_edited_is_refused(tmp_path):
    committed.write("small", tmp_path, [])
    (tmp_path / "table.md").write_text("| tagger | 99.99 |\n")

    with pytest.raises(RecordError) as caught:
        committed.check("small", tmp_path, [])
    assert str(caught.value) == (
        f"{tmp_path / 'table.md'}: not what the records of small say. Write it anew: cdner table small --write."
    )


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# Ours\n")

    with pytest.raises(RecordError) as caught:
        committed.write("small", tmp_path, [], [page])
    assert str(caught.value) == (
        f"{page}: there is no `<!-- cdner table small -->` ... `<!-- end -->` in it; add the marks."
    )
    page.write_bytes(b"\xf9\x00")
    for use in (committed.write, committed.check):
        with pytest.raises(RecordError, match=r"README.md: this is no page of text \("):
            use("small", tmp_path, [], [page])
