# Every target only calls the command line; `make help` prints them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help testbed test bench lint down bootstrap

help: ## print the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

testbed: bootstrap ## set everything up on a fresh machine, boot, prove it
	$(BIN)/testbed up
	$(BIN)/testbed smoke

test: bootstrap ## unit tests, then the scenarios on a testbed (booting what is not up)
	$(BIN)/pytest tests
	$(BIN)/testbed up
	$(BIN)/pytest scenarios -m "not soak"

bench: bootstrap ## scenarios of soak and scale; boot and spawn benchmarks, with their figures
	$(BIN)/testbed up
	$(BIN)/pytest scenarios -m soak
	$(BIN)/testbed bench boot
	$(BIN)/testbed up
	$(BIN)/testbed bench spawn

lint: bootstrap ## ruff, mypy strict, shellcheck, outputs stripped from notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files -z -- .ci/run '*.sh' 'compose/**/files/**' compose/images compose/software/roots | xargs -0 grep -lZE '^#!(/usr)?/bin/(env )?(ba)?sh' | xargs -0r $(BIN)/shellcheck
	git ls-files -z -- '*.ipynb' | xargs -0r $(BIN)/nbstripout --verify --keep-id

down: ## end the testbed; its volumes and images stay
	$(if $(wildcard $(BIN)/testbed),$(BIN)/testbed down,@echo "nothing was ever set up here")

bootstrap:
	@$(PYTHON) -m testbed.bootstrap
