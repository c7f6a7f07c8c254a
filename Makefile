# SPDX-License-Identifier: Apache-2.0
# Every target installs what it needs and can be repeated.

PY := .venv/bin
CACHE := build/lab
QUICK := unit property packet functional contract

.PHONY: help setup demo lab test soak check bench docs format clean

help:
	@echo "make demo    hosts, guests, a pool and traffic on this machine, in about three minutes"
	@echo "make test    all tests (LAYER=lab K=drain for some of them)"
	@echo "make check   format, lint, types, import layers, dead code, documentation"
	@echo "make soak    the tests with long counts"
	@echo "make bench   the benchmarks, beside the peers"
	@echo "make lab     bring the lab up and leave it running (cloudlb-lab down ends it)"
	@echo "make docs    the documentation, into build/doc"

setup:
	@python3 tools/setup.py

demo: setup
	@$(PY)/python -m cloudlb.lab.demo --cache $(CACHE)

lab: setup
	@$(PY)/cloudlb-lab --cache $(CACHE) up

# The quick layers on two processors at once. Then a guest beside the labs, which mostly wait; what its
# tests say comes at the end. A signal ends both: what is run in the background ignores Ctrl-C.
test: setup
ifdef LAYER
	@$(PY)/pytest --require $(if $(K),-k "$(K)") tests/$(LAYER)
else ifdef K
	@$(PY)/pytest --require -k "$(K)" $(addprefix tests/,$(QUICK) lab guest)
else
	@status=0; \
	$(PY)/pytest --require -n 2 --dist loadfile $(addprefix tests/,$(QUICK)) || status=1; \
	mkdir -p build; \
	$(PY)/pytest --require tests/guest >build/guest.txt 2>&1 & guest=$$!; \
	trap "kill $$guest" INT TERM; \
	$(PY)/pytest --require tests/lab || status=1; \
	wait $$guest || status=1; \
	cat build/guest.txt; \
	exit $$status
endif

soak: export CLOUDLB_SOAK = 1
soak: test

check: setup docs
	@$(PY)/ruff format --check -q .
	@$(PY)/ruff check -q .
	@$(PY)/mypy
	@$(PY)/lint-imports
	@$(PY)/vulture
	@$(PY)/reno lint

docs: setup
	@$(PY)/sphinx-build -q -W --keep-going -b html doc/source build/doc

bench: setup
	@$(PY)/python -m benchmarks --cache $(CACHE) --write-readme

format: setup
	@$(PY)/ruff format -q .
	@$(PY)/ruff check -q --fix .

clean:
	rm -rf build .venv
