"""From data sets to a finished bundle: plan, fill, run, compare."""
