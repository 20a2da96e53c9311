"""What runs the jobs of a pool: queues, workers, their supervisor. Nothing in here knows `Pool`."""
