"""Adapters: how a request comes to the dashboard through ASGI, WSGI and Django."""
