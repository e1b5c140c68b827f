"""cdner: one protocol for cross-domain named entity recognition."""

__version__ = "0.1.0"

RECORD_SCHEMA = 2  # 1 had no attempts, and named some packages only
