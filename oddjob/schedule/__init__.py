"""Time: clocks, triggers, the scheduler, and the timers that submit jobs to pools."""
