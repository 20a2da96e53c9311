"""Durable jobs: the store contract, the stores, and the runner that connects them to a pool."""
