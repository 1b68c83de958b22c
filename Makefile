# Every target is one line; each builds .venv when it is missing.
.PHONY: demo gpu test check format lint types docs constraints clean
PY := .venv/bin/python

.venv/ready: pyproject.toml constraints.txt
	python3 -m venv .venv && $(PY) -m pip install -q $(PIP_FLAGS) --disable-pip-version-check -c constraints.txt -e '.[dev]' && touch $@

demo: .venv/ready ## a linear head alone against E²VPT, offline, in half a minute
	$(PY) -m e2vpt demo

test: .venv/ready ## every test
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist worksteal --durations 25

check: format lint types test ## what CI runs

format: .venv/ready
	$(PY) -m ruff format --check src tests scripts

lint: .venv/ready
	$(PY) -m ruff check src tests scripts

gpu: .venv/ready ## checks, speed and trainings on one GPU, at most eight minutes
	$(PY) -m scripts.gpu --out runs/gpu

types: .venv/ready
	$(PY) -m mypy

docs: .venv/ready ## the site, from docstrings; any broken reference fails
	$(PY) -m mkdocs build --strict -q

constraints: .venv/ready ## pin what is installed now
	$(PY) -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf .venv site runs .mypy_cache .ruff_cache .pytest_cache
