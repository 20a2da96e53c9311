"""Dashboard: pools and their jobs in a browser, to look at and to act on.

A `Dashboard` is mounted in a web program (`asgi`, `wsgi`, `urls`), or served by itself: the command
``oddjob dashboard``. Nobody gets in before `auth` says who may.
"""

from importlib.util import find_spec

if find_spec("jinja2") is None:
    raise ImportError("the dashboard needs jinja2: pip install 'oddjob[dashboard]'")

from oddjob.dashboard.application import Dashboard
from oddjob.dashboard.guard import NO_AUTH, BasicAuth, staff_only
from oddjob.dashboard.request import Request

__all__ = ["NO_AUTH", "BasicAuth", "Dashboard", "Request", "staff_only"]
