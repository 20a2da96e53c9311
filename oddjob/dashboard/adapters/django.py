"""The Django adapter: URL patterns for ``include``.

The view is exempt from Django's CSRF check, as the dashboard checks requests itself, without
tokens.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from oddjob.dashboard.adapters.wsgi import request_of
from oddjob.dashboard.request import Request, Response

_MODULES: Final = ("django.http", "django.urls", "django.views.decorators.csrf")


def patterns(handle: Callable[[Request], Response]) -> list[Any]:
    """Return URL patterns; what they are included under is found from each request."""
    http, urls, csrf = map(import_module, _MODULES)

    def dashboard(django: Any, path: str) -> Any:
        # The path is decoded already.
        request = request_of({**django.META, "PATH_INFO": "", "wsgi.input": django}, django)
        request.path, request.base_path = f"/{path}", django.path.removesuffix(path)
        response = handle(request)
        answer = http.HttpResponse(response.body, status=response.status)
        for name, value in response.headers:
            answer[name] = value
        return answer

    view = csrf.csrf_exempt(dashboard)
    return [urls.re_path(r"^(?P<path>.*)$", view, name="oddjob-dashboard")]
