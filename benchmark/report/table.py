"""A board's records as tables, for a terminal, Markdown, LaTeX, CSV or JSON: the names of four files in one place.

reading.py  load                 folder         -> records
rows.py     rows, error_rows, audit_rows, type_rows  cells, records -> Row, ErrorRow, AuditRow, TypeRow
            protocol_rows        cells, records -> ProtocolRow
layout.py   tables, with_evidence, with_worst  rows     -> Table
render.py   render                       rows or tables -> str    one of FORMATS

Each file imports only from those above it.
"""

from benchmark.report.layout import DASH, SELECTED, TONES, Entry, Marks, Table, tables, with_evidence, with_worst
from benchmark.report.reading import LEVELS, Record, load
from benchmark.report.render import FORMATS, Markup, render
from benchmark.report.rows import (
    AUDIT,
    ERRORS,
    METRICS,
    NO_RECORD,
    AnyRow,
    AuditRow,
    Cell,
    ErrorRow,
    Outcome,
    ProtocolRow,
    Row,
    Summary,
    TypeRow,
    audit_rows,
    check,
    error_rows,
    protocol_rows,
    rows,
    type_rows,
)

__all__ = [
    "AUDIT",
    "DASH",
    "ERRORS",
    "FORMATS",
    "LEVELS",
    "METRICS",
    "NO_RECORD",
    "SELECTED",
    "TONES",
    "AnyRow",
    "AuditRow",
    "Cell",
    "Entry",
    "ErrorRow",
    "Marks",
    "Markup",
    "Outcome",
    "ProtocolRow",
    "Record",
    "Row",
    "Summary",
    "Table",
    "TypeRow",
    "audit_rows",
    "check",
    "error_rows",
    "load",
    "protocol_rows",
    "render",
    "rows",
    "tables",
    "type_rows",
    "with_evidence",
    "with_worst",
]
