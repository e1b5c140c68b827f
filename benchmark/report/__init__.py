"""Tables from records. No torch in here."""
