"""Integrations with other frameworks and services, one module for each.

None of them is loaded by ``import oddjob``. Each needs the package that it is named after:

- `oddjob.contrib.asgi`: pools that live as long as a FastAPI, Starlette or Litestar application.
- `oddjob.contrib.anyio`: wait for jobs in trio, or in either event loop.
- `oddjob.contrib.flask`: pools whose jobs have an application context.
- `oddjob.contrib.django`: a backend of ``django.tasks``.
- `oddjob.contrib.prometheus`, `opentelemetry`, `sentry`, `logs`: metrics, traces, errors, logs.
"""
