# `make` lists the targets. ARGS is passed on to the command of demo, test, test-all, bench and lock.

PYTHON ?= python3
PEER_PYTHON ?= $(PYTHON)
CHECKPOINTS ?=
# Processes that the tests run in; each takes up to 3 GiB.
WORKERS ?= 2
PATHS ?=
UV ?= uv
ARGS ?=
CASES ?= 100000
FAULTS ?= 300
SEED ?= 0

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed.stamp
# The peer, transformers 4.57.6 on PyTorch, has an environment of its own: it never meets TensorFlow.
PEER_VENV := .venv-peers
PEER_STAMP := $(PEER_VENV)/installed.stamp
BENCH_VENV := .venv-bench-peers
# pip-audit: it is asked about the lock, and is not in it.
AUDIT := .venv-audit/bin/pip-audit
AUDIT_PIP := .venv-audit/bin/python -m pip --disable-pip-version-check
BENCH_STAMP := $(BENCH_VENV)/installed.stamp

# TensorFlow's information and warning lines; errors stay. The demo's binary sees to its own.
test test-all test-browser test-peers test-official bench: export TF_CPP_MIN_LOG_LEVEL := 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-browser test-peers test-official lint bench fuzz fuzz-guided chaos audit lock clean $(VENV)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Another Python:  make demo PYTHON=python3.12"
	@echo "  More arguments:  make test ARGS='-k losses'"

demo: $(STAMP) ## run all of REALM on the embedded corpus; the report is runs/demo/report/index.html
	@$(PY) -m realm_tf.pipeline --config=configs/demo.py --workdir=runs/demo $(ARGS)

test: $(STAMP) ## run the tests, without the slow ones
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-all: $(STAMP) ## run every test
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "" $(ARGS)

test-browser: $(STAMP) ## run the page's tests in a headless Chromium: REALM_BROWSER=FILE, or one that is installed
	@$(PY) -m pip install --quiet --disable-pip-version-check 'playwright>=1.49,<2'
	@$(PY) -m pytest -m "" -rs tests/server/test_page.py tests/server/test_page_run.py $(ARGS)

test-peers: $(STAMP) $(PEER_STAMP) ## run transformers 4.57.6 beside this project, and compare
	@PEER_PYTHON=$(CURDIR)/$(PEER_VENV)/bin/python $(PY) -m pytest -m "" tests/peers $(ARGS)

test-official: $(STAMP) ## check the released checkpoints in CHECKPOINTS=FOLDER against their published numbers
	@REALM_CHECKPOINTS="$(abspath $(CHECKPOINTS))" $(PY) -m pytest -m "" -rs tests/official $(ARGS)

lint: $(STAMP) ## check the code with ruff
	@$(PY) -m ruff check .

bench: $(STAMP) $(BENCH_STAMP) ## measure every speed figure, or PATHS=step,embed, beside its peers
	@$(PY) -m benchmarks.run --paths=$(PATHS) --peer_python=$(BENCH_VENV)/bin/python $(ARGS)

fuzz: $(STAMP) ## put CASES=100000 bad inputs to every door; SEED=n for others
	@$(PY) -m tests.fuzz --cases=$(CASES) --seed=$(SEED) $(ARGS)

fuzz-guided: $(STAMP) ## the same for bytes that our own code reads, led by what they reach: atheris, which is installed
	@$(PY) -m pip install --quiet --disable-pip-version-check 'atheris>=3,<4'
	@$(PY) -m tests.fuzz.guided --cases=$(CASES) --seed=$(SEED) $(ARGS)

chaos: $(STAMP) ## inject FAULTS=300 real faults into a small run, SEED=n for others; writes chaos.json
	@$(PY) -m realm_tf.chaos --faults=$(FAULTS) --seed=$(SEED) --output=chaos.json $(ARGS)

audit: $(STAMP) ## known vulnerabilities and licences of the locked packages; needs a network for the first
	@test -x $(AUDIT) || { $(PYTHON) -m venv .venv-audit && $(AUDIT_PIP) install --quiet --retries=1 --timeout=20 'pip-audit>=2.10,<3'; } \
	  || echo "pip-audit cannot be installed here" >&2
	@$(PY) -m tests.audit $(AUDIT)

lock: ## recompile requirements.lock from requirements.in; needs uv
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 2; }
	@$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --quiet requirements.in --output-file requirements.lock $(ARGS)
	@! grep -nE '^[^#]*(://|--(extra-)?index-url|--find-links)' requirements.lock

clean: ## remove .venv, caches and build outputs; runs/ stays
	rm -rf $(VENV) $(PEER_VENV) $(BENCH_VENV) .venv-audit build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): $(STAMP)

# One sentence for a wrong Python, before anything is downloaded. Any Python must be able to run CHECK_PYTHON.
NEEDS := realm-tf needs Python 3.11 to 3.13
MEND := make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12
CHECK_PYTHON := import sys; v = sys.version_info[:2]; \
  (3, 11) <= v <= (3, 13) or sys.exit("$(NEEDS); %d.%d was found: $(MEND)" % v)

$(STAMP): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(NEEDS); no $(PYTHON) was found: $(MEND)" >&2; exit 2; }
	@$(PYTHON) -c '$(CHECK_PYTHON)' || exit 2
	@echo "Installing the locked requirements into $(VENV): a few minutes and 3 GB of disk."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Both peers' environments: a folder, and the file of what is in it.
define install-peers
	@command -v $(PEER_PYTHON) >/dev/null || { echo "no $(PEER_PYTHON): make $(firstword $(MAKECMDGOALS)) PEER_PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing the peers of $< into $(@D)."
	@$(PEER_PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
endef

$(PEER_STAMP): tests/peers/requirements.txt
	$(install-peers)

$(BENCH_STAMP): benchmarks/requirements-peers.txt
	$(install-peers)
