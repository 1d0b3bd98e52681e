# Every target prepares what it needs. `make` alone explains the targets.

# Any of these may be given on the command line: make test WORKERS=4, make demo PYTHON=python3.12
PYTHON  ?=
WORKERS ?= 2
ARGS    ?=

VENV   := .venv
BIN    := $(VENV)/bin
# both are empty files whose age says whether the environment is up to date
LOCKED := $(VENV)/.locked
STAMP  := $(VENV)/.set-up
LOCK   := requirements.lock
# pydensecrf, which tests compare with; it has no wheels, so it needs a C++ compiler and a Cython of its own
PEER   := requirements-crf.lock
PEERS  := $(VENV)/.peers
# resolves the lock file; not part of the environment
UV     := uv==0.13.8

# newest first; a name that exists but does not run is passed over
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)

PIP := $(BIN)/python -m pip --disable-pip-version-check

# Shell lines that set $$python to the first interpreter that fits, or end with one sentence that says what is missing.
define find_python
python=; without_venv=; \
for name in $(PYTHONS); do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 || continue; \
	if "$$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$name; break; fi; \
	without_venv="$$without_venv $$name"; \
done; \
if [ -z "$$python" ] && [ -n "$$without_venv" ]; then \
	echo "Error:$$without_venv cannot make virtual environments: install its venv module (on Debian and Ubuntu the package named after it, such as python3.11-venv)." >&2; exit 1; \
elif [ -z "$$python" ]; then \
	echo "Error: no Python 3.11, 3.12 or 3.13 among: $(PYTHONS). Install one, or name it: make PYTHON=/path/to/python3.12." >&2; exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-long torture golden lint types format check hooks lock clean

help: ## show this list
	@echo "Atrous: the DeepLab family. Needs Python 3.11, 3.12 or 3.13, make and git; the first target that needs it creates $(VENV)."
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Options: PYTHON=python3.12 (which interpreter), WORKERS=4 (test processes), ARGS='...' (passed on by demo and the tests)."

setup: $(STAMP) ## create .venv from the lock file; done once, again only when the lock file or pyproject.toml changes

# Build tools come first, so that no step of the installation fetches anything that is not pinned.
$(LOCKED): $(LOCK)
	@if $(BIN)/python -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then \
		echo "set-up: bringing $(VENV) up to date with $(LOCK)"; \
	else \
		$(find_python); \
		echo "set-up: creating $(VENV) with $$("$$python" --version) (once; on Linux it takes about 6 GB of disk)"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@sed -n '/^setuptools==/,/[^\\]$$/p' $(LOCK) > $(VENV)/build.lock
	@$(PIP) install --quiet --require-hashes --no-deps -r $(VENV)/build.lock
	@$(PIP) install --require-hashes --no-build-isolation --use-pep517 -r $(LOCK)
	@touch $@

$(STAMP): $(LOCKED) pyproject.toml
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "set-up: done"

$(PEERS): $(LOCKED) $(PEER)
	@echo "set-up: building pydensecrf, which tests compare with (half a minute, once)"
	@sed '/^pydensecrf2==/,$$d' $(PEER) > $(VENV)/crf-build.lock
	@$(PIP) install --quiet --require-hashes --no-deps -r $(VENV)/crf-build.lock
	@$(PIP) install --quiet --require-hashes --no-deps --no-build-isolation --use-pep517 -r $(PEER) >$(VENV)/crf-build.log 2>&1 \
		|| echo "set-up: pydensecrf was not built ($(VENV)/crf-build.log says why): the tests that compare with it are skipped"
	@touch $@

demo: $(STAMP) ## train DeepLabv3+ on the embedded data set for some minutes and draw what it learned
	$(BIN)/python src/train.py experiment=demo $(ARGS)

test: $(STAMP) $(PEERS) ## run all tests except the long ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not torture" $(ARGS)

test-fast: $(STAMP) $(PEERS) ## run the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not slow and not torture" $(ARGS)

test-long: $(STAMP) $(PEERS) ## run the long tests, which `make test` leaves out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long $(ARGS)

torture: $(STAMP) ## kill trainings at 20 moments and try other faults, in 20 minutes (KILLS=100: for a night)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m torture tests/torture --kills $(or $(KILLS),20) $(ARGS)

golden: $(STAMP) ## store the losses that `make torture` compares, after a change that is meant to change them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m torture tests/torture/test_golden_curves.py --store

lint: $(STAMP) ## check layout and style of all files
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	@if git grep --untracked -nIE '[[:blank:]]+$$' -- . ':!LICENSE'; then echo "Error: white space at the end of the lines above." >&2; exit 1; fi

types: $(STAMP) ## check types with mypy
	$(BIN)/mypy

format: $(STAMP) ## rewrite Python files in the project's layout
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

check: lint types test test-long ## all that continuous integration checks

hooks: $(STAMP) ## run the checks at every git commit
	$(BIN)/pre-commit install

lock: ## resolve the lock file again from pyproject.toml (UPGRADE=1: to the newest versions)
	@$(find_python); test -x .venv-lock/bin/python || "$$python" -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet "$(UV)"
	.venv-lock/bin/uv pip compile pyproject.toml --extra dev --extra export --extra executorch --extra demo --extra sweep --extra cluster --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
		$(if $(UPGRADE),--upgrade) --output-file $(LOCK)
	printf 'cython==0.29.36\npydensecrf2==1.1\n' | .venv-lock/bin/uv pip compile - --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file $(PEER)
	@if grep -n '://' $(LOCK) $(PEER); then echo "Error: lock files must not name a place on the network." >&2; exit 1; fi

clean: ## remove caches and environments; data/ and logs/ stay
	rm -rf $(VENV) .venv-lock .mypy_cache .pytest_cache .ruff_cache build dist src/*.egg-info
	find . -name __pycache__ -type d -not -path './data/*' -not -path './logs/*' -prune -exec rm -rf {} +
