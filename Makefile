# Everything happens in a virtual environment of its own; nothing else is installed or changed.
#
#   make demo VENV=/tmp/venv      another place for it
#   make test PYTHON=python3.13   another interpreter (with a new VENV)
#   make test ARGS="-k session"   arguments for pytest

PYTHON ?= python3
VENV ?= .venv
SUPPORTED = 3.11 3.12 3.13

PIP = $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
EXAMPLE = -e ".[django,flask]" -r example_project/requirements.txt

.PHONY: help
help:
	@echo "make demo      perform the example's scenarios, stock and with contextcache"
	@echo "make serve     serve the example shops on this machine, until Ctrl-C"
	@echo "make test      run the tests"
	@echo "make test-all  run the tests on each supported Python that is installed"
	@echo "make lint      check style and types"
	@echo "make build     build the wheel into dist/"
	@echo "make clean     remove what these commands made"

.PHONY: demo
demo: $(VENV)/example.stamp
	@$(VENV)/bin/python example_project/demo.py

.PHONY: serve
serve: $(VENV)/example.stamp
	@$(VENV)/bin/python example_project/serve.py

.PHONY: test
test: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest $(ARGS)

.PHONY: test-all
test-all:
	@failed=; tested=; \
	for version in $(SUPPORTED); do \
	    if python$$version -c "" 2>/dev/null; then \
	        tested="$$tested $$version"; \
	        $(MAKE) test PYTHON=python$$version VENV=$(VENV)-$$version || failed="$$failed $$version"; \
	    fi; \
	done; \
	echo "tested on:$${tested:- none of $(SUPPORTED)}; failed on:$${failed:- none}"; \
	test -n "$$tested" && test -z "$$failed"

.PHONY: lint
lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

.PHONY: build
build: $(VENV)/pip.stamp
	$(PIP) wheel --no-deps --wheel-dir dist .

.PHONY: clean
clean:
	rm -rf $(VENV) $(foreach version,$(SUPPORTED),$(VENV)-$(version)) dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis example_project/django_shop/db.sqlite3

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"  # the first to know --group
	@touch $@

$(VENV)/example.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE) --group dev
	@touch $@
