"""Inputs that nobody should meet and somebody will, and a judge of what e2vpt makes of them.

python -m scripts.mutate [--seed N] [--kinds adapters,images] [--count N] [--jobs N]

From a seed it makes adapters resealed with right checksums, images, tars, CSV files and weights files. Each
is given to what a user would run. Right is an error of `e2vpt.errors` that names the file, or exactly what an
independent reading of the same bytes gives; at most 15 seconds and 1 GB. One input again:
python -m scripts.mutate --kinds images --only 17
"""
