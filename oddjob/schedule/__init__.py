"""The rooms of which timers are built."""
