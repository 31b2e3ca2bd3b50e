# Everything happens in a virtual environment of its own; nothing else is installed or changed.
#
#   make demo VENV=/tmp/venv      another place for it
#   make test PYTHON=python3.13   another interpreter (with a new VENV)
#   make test ARGS="-k session"   arguments for pytest, which uses all cores: ARGS="-n 0" for one

PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 10
SECONDS ?= 60
PROGRAMS ?= 20000
SUPPORTED = 3.11 3.12 3.13 3.14 3.15
FREE_THREADED = 3.15t 3.14t 3.13t
# Where `make pythons` and `make free-threaded` put what is not on this machine.
export PYTHONS ?= $(HOME)/.cache/contextcache-pythons

PIP = $(VENV)/bin/python -m pip --quiet --quiet --disable-pip-version-check
EXAMPLE = -e ".[django,flask]" -r example_project/requirements.txt

.PHONY: help
help:
	@echo "make demo               perform the example's scenarios, stock and with contextcache"
	@echo "make serve              serve the example shops on this machine, until Ctrl-C"
	@echo "make test               run the tests"
	@echo "make test-all           run the tests on each supported Python that is installed"
	@echo "make test-lowest        run the adapters' tests with the lowest versions that are declared"
	@echo "make test-freethreaded  use one guard in eight threads without the GIL (SECONDS=60, PYTHON_FT=...)"
	@echo "make installs           install the wheel, alone and with extras, on each supported Python"
	@echo "make matrix             run everything in docs/compatibility.md and write that page (hours)"
	@echo "make pythons            get the supported Pythons that are missing, from Debian (a minute, no root)"
	@echo "make free-threaded      build a Python without the GIL, where there is none (four minutes, no root)"
	@echo "make newer-servers      get the newest Redis and Valkey from Debian (no root)"
	@echo "make test-servers       run the tests of servers on the newest Redis and on Valkey of Debian"
	@echo "make test-faults        run only the tests that do real servers harm"
	@echo "make conformance        run the suites of Django and django-redis on our classes"
	@echo "make conformance-flask  run the suites of Flask-Caching and cachelib on our backends"
	@echo "make fault-matrix       do real servers harm and note what it costs, into docs/fault-matrix.md"
	@echo "make session-table      lose each message of each flow of a session, into docs/session-table.md"
	@echo "make payload-matrix     write values on each Python, read them on each, into docs/payload-matrix.md"
	@echo "make soak               use everything for ten minutes (MINUTES=10) under constant faults"
	@echo "make fuzz               give what reads payloads what is none, for a minute (SECONDS=60)"
	@echo "make programs           try 20,000 generated pickle programs on an allow-list (PROGRAMS=20000)"
	@echo "make bench              measure everything beside what people use today, into docs/benchmarks.md"
	@echo "make before-after       perform real reports once more, into docs/before-after.md"
	@echo "make architecture       trace what a value passes through, into docs/architecture.md"
	@echo "make lint               check style and types"
	@echo "make figures            print how long the packages, files and classes are"
	@echo "make coverage           run the tests and print which lines of the packages none runs"
	@echo "make build              build the wheel into dist/"
	@echo "make clean              remove what these commands made"

.PHONY: demo
demo: $(VENV)/example.stamp
	@$(VENV)/bin/python example_project/demo.py

.PHONY: serve
serve: $(VENV)/example.stamp
	@$(VENV)/bin/python example_project/serve.py

.PHONY: test
test: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m pytest -n auto $(ARGS)

.PHONY: test-faults
test-faults: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m pytest -m faults $(ARGS)

.PHONY: soak
soak: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m tools.soak $(MINUTES)

.PHONY: conformance-flask
conformance-flask: $(VENV)/test.stamp servers
	$(VENV)/bin/python conformance/flask_suites.py $(ARGS)

.PHONY: fault-matrix
fault-matrix: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m tools.fault_matrix

.PHONY: payload-matrix
payload-matrix: pythons
	@for version in $(SUPPORTED); do \
	    $(MAKE) $(VENV)-$$version/test.stamp VENV=$(VENV)-$$version \
	        PYTHON="$$(tools/find_python.sh $$version)" || exit 1; \
	done
	$(VENV)-$(firstword $(SUPPORTED))/bin/python -m tools.payload_matrix \
	    $(foreach version,$(SUPPORTED),$(VENV)-$(version)/bin/python)

.PHONY: session-table
session-table: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m tools.session_table

# Where an input is found that breaks a promise, it is left in a file named crash-..., which
# `python -m fuzz.loads FILE` tries again.
.PHONY: fuzz
fuzz: $(VENV)/fuzz.stamp
	$(VENV)/bin/python -m fuzz.loads -max_total_time=$(SECONDS) -timeout=30 -max_len=4096 \
	    -print_final_stats=1 $(ARGS)

.PHONY: programs
programs: $(VENV)/test.stamp
	CONTEXTCACHE_PROGRAMS=$(PROGRAMS) $(VENV)/bin/python -m pytest -q -s -p no:xdist \
	    -o faulthandler_timeout=0 --hypothesis-profile=default tests/core/test_allow_list_programs.py $(ARGS)

# The tests run against a real Redis, memcached and Chromium; fakes of them would prove nothing.
.PHONY: servers
servers:
	@for server in redis-server memcached chromedriver openssl; do \
	    command -v $$server >/dev/null && continue; \
	    echo "installing $$server, which the tests start on a free port"; \
	    if [ "$$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi; \
	    package=$$(echo $$server | sed 's/chromedriver/chromium-driver/'); \
	    { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$package; } >/dev/null 2>&1; \
	    command -v $$server >/dev/null || { \
	        echo "please install $$server (apt, brew, dnf) and try again" >&2; exit 1; \
	    }; \
	done

.PHONY: conformance
conformance: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m conformance.run $(ARGS)

.PHONY: test-all
test-all:
	@for version in $(SUPPORTED); do \
	    if python=$$(tools/find_python.sh $$version); then \
	        tested="$$tested $$version"; \
	        $(MAKE) test PYTHON="$$python" VENV=$(VENV)-$$version || failed="$$failed $$version"; \
	    else \
	        missing="$$missing $$version"; \
	    fi; \
	done; \
	echo "tested on:$${tested:- none}; failed on:$${failed:- none}; NOT tested on:$${missing:- none}"; \
	test -z "$$failed"

LOWEST = $(VENV)-lowest
.PHONY: test-lowest
test-lowest: export PIP_CONSTRAINT = $(CURDIR)/tools/lowest.txt
test-lowest: servers
	$(MAKE) $(LOWEST)/test.stamp VENV=$(LOWEST)
	$(LOWEST)/bin/python -m pytest -n auto tests/django tests/flask $(ARGS)

# hiredis is not installed there: it turns the GIL on, and then this would prove nothing.
PYTHON_FT ?= $(firstword $(foreach version,$(FREE_THREADED),$(shell tools/find_python.sh $(version) 2>/dev/null)))
.PHONY: test-freethreaded
test-freethreaded:
	@test -n "$(PYTHON_FT)" || { echo "NOT TESTED: no Python without the GIL: make free-threaded" >&2; exit 1; }
	$(MAKE) $(VENV)-free/threads.stamp VENV=$(VENV)-free PYTHON=$(PYTHON_FT)
	CONTEXTCACHE_SECONDS=$(SECONDS) $(VENV)-free/bin/python -m pytest -q -rP --show-capture=stdout \
	    tests/core/test_threads.py $(ARGS)

.PHONY: free-threaded
free-threaded:
	@for version in $(FREE_THREADED); do tools/find_python.sh $$version 2>/dev/null && exit; done; \
	tools/free_threaded.sh $(PYTHONS)/free-threaded && tools/find_python.sh 3.13t

.PHONY: installs
installs: build
	$(PIP) install --group release
	$(VENV)/bin/python -m twine check --strict dist/*.whl
	@failed=; for version in $(SUPPORTED); do \
	    if python=$$(tools/find_python.sh $$version); then \
	        tools/try_wheel.sh "$$python" || failed="$$failed $$version"; \
	    else \
	        missing="$$missing $$version"; \
	    fi; \
	done; \
	echo "failed to install on:$${failed:- none}; NOT tried on:$${missing:- none}"; \
	test -z "$$failed"

# Redis and Valkey of a newer suite of Debian, unpacked as the Pythons are. Each folder has a program
# named redis-server, which is what the tests start.
SERVERS ?= $(HOME)/.cache/contextcache-servers
.PHONY: newer-servers
newer-servers:
	@test -x $(SERVERS)/usr/bin/valkey-server || tools/newer_debian.sh $(SERVERS) redis-server valkey-server
	@for name in redis valkey; do \
	    mkdir -p $(SERVERS)/$$name; \
	    ln -sf ../usr/bin/$$name-server $(SERVERS)/$$name/redis-server; \
	done

SERVER_TESTS = tests/contract tests/faults tests/django tests/flask tests/core/test_servers.py \
    tests/core/test_connections.py tests/core/test_deadline.py tests/core/test_async_clients.py \
    tests/core/test_audit.py
.PHONY: test-servers
test-servers: $(VENV)/test.stamp servers newer-servers
	@for name in redis valkey; do \
	    server=$$($(SERVERS)/$$name/redis-server --version | cut -d" " -f1-3); \
	    PATH="$(SERVERS)/$$name:$$PATH" $(VENV)/bin/python -m pytest -n auto $(SERVER_TESTS) $(ARGS) \
	        && passed="$$passed; $$server" || failed="$$failed; $$server"; \
	done; \
	echo "passed on:$${passed:- none}; failed on:$${failed:- none}"; \
	test -z "$$failed"

# Everything of docs/compatibility.md, which takes hours on two cores; each ends with what ran where.
RESULTS = $(CURDIR)/.results
.PHONY: matrix
matrix: export CONTEXTCACHE_RESULTS = $(RESULTS)
matrix: pythons
	rm -rf $(RESULTS)
	$(MAKE) installs
	$(MAKE) test-lowest
	$(MAKE) payload-matrix
	$(MAKE) test-servers
	$(MAKE) test-all
	for version in $(SUPPORTED); do $(MAKE) conformance VENV=$(VENV)-$$version || exit 1; done
	$(VENV)/bin/python -m tools.compatibility $(RESULTS)

# What is missing is unpacked from a newer suite of Debian, whose mirror this machine's apt knows. On
# another system, or for a version that the suite has not, use pyenv: it is found, too.
.PHONY: pythons
pythons:
	@for version in $(SUPPORTED); do \
	    python=$$(tools/find_python.sh $$version 2>/dev/null) \
	        || tools/newer_debian.sh $(PYTHONS) python$$version-venv libpython$$version-testsuite; \
	    python=$$(tools/find_python.sh $$version) && echo "$$version  $$python" \
	        || missing="$$missing $$version"; \
	done; \
	test -z "$$missing"

.PHONY: lint
lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@$(VENV)/bin/python -m tools.figures

.PHONY: figures
figures: $(VENV)/pip.stamp
	@$(VENV)/bin/python -m tools.figures

# Without xdist, whose processes coverage would not see. The servers' faults add time and no lines.
.PHONY: coverage
coverage: $(VENV)/coverage.stamp servers
	rm -f .coverage .coverage.*
	printf '%s\n' "tests/core" "tests/django tests/flask tests/contract" \
	    | xargs -P 2 -I {} sh -c '$(VENV)/bin/coverage run -m pytest -q {} $(ARGS)'
	$(VENV)/bin/coverage combine -q
	$(VENV)/bin/coverage report

.PHONY: bench
bench: $(VENV)/bench.stamp servers
	$(VENV)/bin/python -m benchmarks $(ARGS)

.PHONY: before-after
before-after: $(VENV)/test.stamp
	$(VENV)/bin/python -m tools.before_after

.PHONY: architecture
architecture: $(VENV)/test.stamp servers
	$(VENV)/bin/python -m tools.architecture

.PHONY: build
build: $(VENV)/pip.stamp
	$(PIP) wheel --no-deps --wheel-dir dist .

.PHONY: clean
clean:
	rm -rf $(VENV) $(LOWEST) $(VENV)-free $(foreach version,$(SUPPORTED),$(VENV)-$(version)) dist
	rm -rf .results .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* \
	    example_project/django_shop/db.sqlite3

$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"  # the first to know --group
	@touch $@

$(VENV)/example.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE)
	@touch $@

$(VENV)/bench.stamp: $(VENV)/pip.stamp pyproject.toml
	$(PIP) install $(EXAMPLE) --group bench
	@touch $@

$(VENV)/test.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE) --group reports
	@touch $@

$(VENV)/threads.stamp: $(VENV)/pip.stamp pyproject.toml
	$(PIP) install --only-binary :all: --group threads
	$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/coverage.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE) --group coverage
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/test.stamp
	$(PIP) install --group fuzz
	@touch $@

# Who works on it has all of that, but for the fuzzer.
$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml example_project/requirements.txt
	$(PIP) install $(EXAMPLE) --group dev
	@touch $(VENV)/example.stamp $(VENV)/bench.stamp $(VENV)/test.stamp $@
