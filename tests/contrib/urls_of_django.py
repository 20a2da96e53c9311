"""The pages of a small site: the dashboard, for the staff."""

from django.conf import settings
from django.urls import include, path

from oddjob.dashboard import Dashboard, staff_only

dashboard = Dashboard(settings.TASKS["default"]["OPTIONS"]["store"], auth=staff_only)
urlpatterns = [path("jobs/", include(dashboard.urls))]
