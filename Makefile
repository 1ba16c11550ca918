PYTHON ?= python3
PORT ?= 8000
ENV := .venv/.installed
SITE := _build/html/index.html

# The notebooks run in this environment's kernel, on one thread each: faster for small problems, and the same digits every time.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
export OMP_NUM_THREADS ?= 1
export PYTHONHASHSEED ?= 0
unexport MPLBACKEND
# Nobody's own settings of figures, nor a list of fonts from elsewhere.
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib

# Machines that a notebook meets; each leg runs all of them strictly, as nbtest does.
LEGS := portable threads onecore fastclock rounding

.DEFAULT_GOAL := help
.PHONY: help install book course test quick lint unit nbtest compare anywhere $(LEGS) digits robust lab serve notebooks repository clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(ENV): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer builds the book: make $(or $(MAKECMDGOALS),book) PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@.venv/bin/python -c 'import matplotlib.font_manager'  # lists the fonts now, not beneath a first figure
	@touch $@

install: $(ENV) ## create .venv with everything pinned in requirements.txt

book: $(ENV) ## execute every notebook and build the site
	.venv/bin/jupyter-book build book --config _config.yml --toc "$(CURDIR)/_toc.yml" --path-output . -W --keep-going -n --all
	@echo "The book is built: file://$(CURDIR)/$(SITE)   (or: make serve)"

test: lint unit nbtest ## run every check: style, imports, tests, notebooks against their stored outputs

lint: $(ENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/zizmor --quiet --offline .github/workflows

unit: $(ENV) # COVER="--cov=reconlaw" prints how much of the package the tests reach
	.venv/bin/python -m pytest tests -rs -n 2 --dist loadscope --no-loadscope-reorder $(COVER)  # few tests may be long

quick: $(ENV) ## style, and a fast part of the tests, under a minute: what to run while writing
	.venv/bin/ruff check .
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -n 2 -m "not slow" $(addprefix tests/test_,$(addsuffix .py,$(QUICK)))

QUICK := activations exercises feature_map_contract hermite house lift matching public_face projection spectral threat_model

NBTEST := .venv/bin/python -m pytest --nbval --nbval-current-env --nbval-kernel-startup-timeout 600 --nbval-sanitize-with tests/nbval_sanitize.cfg -n 2 --dist loadscope book

nbtest: $(ENV)
	$(NBTEST)

compare: $(ENV) # what make book executed, as strictly: its outputs against those stored
	.venv/bin/python -m pytest -q --nbval-sanitize-with tests/nbval_sanitize.cfg tests/built_outputs.py

anywhere: $(LEGS) ## run the notebooks as on other machines: old, busy, slow, with other arithmetic

portable: $(ENV) # no vector instructions beyond those of every machine
	MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default $(NBTEST)

threads: $(ENV) # two threads a kernel, so that sums come in another order
	OMP_NUM_THREADS=2 MKL_CBWR=AVX2 $(NBTEST)

onecore: $(ENV) # two workers share one core
	taskset -c 0 $(NBTEST)

fastclock: $(ENV) # budgets in seconds hold a fifth of the work
	RECONLAW_CLOCK_SPEED=5 $(NBTEST)

rounding: $(ENV) # other last bits of all that libraries round as they like; RECONLAW_ROUNDING=2 draws others
	PYTHONPATH="$(CURDIR)/tests/rounding" RECONLAW_ROUNDING=$${RECONLAW_ROUNDING:-1} $(NBTEST)

digits: $(ENV) ## list printed numbers whose last digit other arithmetic could turn (NB=path for one)
	.venv/bin/python tests/digits.py $(NB)

robust: $(ENV) ## rerun each chapter's searches with θ moved by its rounding and with other seeds (NB=path for one)
	.venv/bin/python tests/robust.py $(NB)

course: $(ENV) ## write notebooks for students, slides, answers and the handout into _build/course
	PYTHONPATH=book/_ext .venv/bin/python -m course

lab: $(ENV) ## open the notebooks in JupyterLab
	env -u OMP_NUM_THREADS .venv/bin/jupyter lab --notebook-dir book

serve: $(ENV) ## serve the site on localhost (PORT=8000), building it first if there is none
	@test -f $(SITE) || $(MAKE) book
	@echo "http://localhost:$(PORT)/   (Ctrl-C stops)"
	@.venv/bin/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

notebooks: $(ENV) ## re-execute the notebooks in place (NB=path for one)
	.venv/bin/python book/_ext/notebooks.py $(NB)
	.venv/bin/ruff format --quiet book

repository: ## re-point badges, links and install cells: SLUG=owner/name
	@$(PYTHON) book/_ext/repository.py $(SLUG)

clean: ## remove the built site and caches; keep .venv
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find book src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
