"""The store contract on a Redis server."""
