"""Time, FLOPs and memory beside the official form; each command leaves a report."""
