"""A card becomes a verified corpus becomes Lightning data modules."""
