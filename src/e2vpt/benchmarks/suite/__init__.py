"""The paper's benchmarks, VTAB-1k and FGVC, and the tables the papers print of them.

tasks.py      which tasks a directory holds, and from what source
cell.py       a task and a method: all the trainings a protocol takes for it
run.py        the cells of a benchmark: here, in shares, on a cluster
published.py  the numbers that the papers print
report.py     the table, beside them
plan.py       what it costs, before
"""
