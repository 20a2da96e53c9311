"""The store contract on one SQLite file."""
