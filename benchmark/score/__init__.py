"""Spans, protocols, statistics. No torch in here."""
