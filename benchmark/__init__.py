"""cdner: one protocol for cross-domain named entity recognition."""

__version__ = "0.1.0"
