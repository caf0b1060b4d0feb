"""Faults as figures: mutated inputs, damaged files of runs, killed runs: `python -m benchmarks.torture`."""
