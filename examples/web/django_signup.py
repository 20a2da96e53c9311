"""Django: tasks run in pools of this process, the mails in a pool of their own.

On Django 5.2, the package django-tasks has what Django 6.0 has as ``django.tasks``.
"""

import django
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path

import oddjob

IS_NEW = django.VERSION >= (6,)
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["oddjob.contrib.django", *([] if IS_NEW else ["django_tasks"])],
    ROOT_URLCONF=__name__,
    TASKS={
        "default": {
            "BACKEND": "oddjob.contrib.django.OddJobBackend",
            "QUEUES": ["default", "mail"],
            "OPTIONS": {"pool_size": 4, "max_queue": 1000},
        }
    },
    USE_TZ=True,
)
django.setup()

if IS_NEW:
    from django.tasks import task
else:
    from django_tasks import task

sent: list[str] = []


@task(queue_name="mail", retries=3)
def send(to: str) -> None:
    """Send a mail."""
    sent.append(to)


def signup(request: HttpRequest) -> JsonResponse:
    """Answer at once; the mail is sent after that."""
    return JsonResponse({"task": send.enqueue(request.GET["to"]).id}, status=202)


urlpatterns = [path("signup", signup)]

answer = Client().get("/signup?to=ada@example.org")
oddjob.shutdown_all()

print(answer.status_code, answer.json(), sent)
assert (answer.status_code, sent) == (202, ["ada@example.org"])
