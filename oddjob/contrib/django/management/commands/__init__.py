"""Commands of ``manage.py``; Django finds them here."""
