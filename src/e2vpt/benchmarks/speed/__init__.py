"""Measuring: what the method costs beside its alternatives. Each command leaves a report."""
