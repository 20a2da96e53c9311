"""The rooms a pool is composed of: its queue, its workers, their supervisor, the process's end."""
