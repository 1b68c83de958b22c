"""The development tasks of docs/development-tasks.md, made again from public repositories and from drawing.

python -m scripts.dev_tasks OUT [--mirror DIR] [--tasks a,b]

DIR holds the git directories of the repositories in `photographs`, one folder `owner+name` each; the drawn
tasks need none. Each task becomes `OUT/<name>/{train,val,test}/<class>/` and `labels.csv`, the same bytes
every time with one version of Pillow and NumPy.
"""
