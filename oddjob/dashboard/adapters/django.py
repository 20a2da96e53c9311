"""The Django adapter: URL patterns for ``include``.

The view is exempt from Django's CSRF check, as the dashboard checks requests itself, without
tokens.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from oddjob.dashboard.request import MOST_BYTES, Request, Response, headers_of, parse_query

_MODULES: Final = ("django.http", "django.urls", "django.views.decorators.csrf")


def patterns(handle: Callable[[Request], Response]) -> list[Any]:
    """Return URL patterns; what they are included under is found from each request."""
    http, urls, csrf = map(import_module, _MODULES)

    def dashboard(django: Any, path: str) -> Any:
        size = int(django.META.get("CONTENT_LENGTH") or 0)
        response = handle(
            Request(
                django.method,
                path,
                django.path.removesuffix(path),
                parse_query(django.META.get("QUERY_STRING", "")),
                headers_of(django.headers.items()),
                django.read(MOST_BYTES + 1) if size else b"",
                django,
            )
        )
        answer = http.HttpResponse(response.body, status=response.status)
        for name, value in response.headers:
            answer[name] = value
        return answer

    view = csrf.csrf_exempt(dashboard)
    return [urls.re_path(r"^(?P<path>.*)$", view, name="oddjob-dashboard")]
