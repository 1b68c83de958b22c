"""The paper's benchmarks, VTAB-1k and FGVC, and the tables the papers print of them.

headers.py    format and size of stored images, held to the official ones
check.py      is a directory the published benchmark
tasks.py      which tasks a directory holds, and from what source
cell.py       a task and a method: all the trainings a protocol takes for it
run.py        the cells of a benchmark: here, in shares, on a cluster
published.py  the numbers that the papers print
report.py     the table, beside them
plan.py       what it costs, before
"""
