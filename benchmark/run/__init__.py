"""plan -> stages -> engine -> records."""
