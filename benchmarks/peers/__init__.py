"""One arm of `runner_overhead` each: run by its own environment, they import the standard library and their library only."""
