# SPDX-License-Identifier: Apache-2.0
# Every target installs what it needs and can be repeated.

PY := .venv/bin
CACHE := build/lab
LAYERS := unit property packet functional contract lab guest
LAYER ?=
K ?=

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

test: setup
	@$(PY)/pytest --require $(if $(K),-k "$(K)") \
	    $(if $(LAYER),tests/$(LAYER),$(foreach layer,$(LAYERS),tests/$(layer)))

soak: setup
	@CLOUDLB_SOAK=1 $(PY)/pytest --require $(foreach layer,$(LAYERS),tests/$(layer))

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
