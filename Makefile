# Two commands on a fresh machine: `make demo` and `make test`. Everything else is listed by `make help`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
ATLAS  ?= demo.atlas

.PHONY: help demo test check soak docs format bench clean

help:
	@echo "make demo    install, build $(ATLAS) from the embedded model, print the headline answers"
	@echo "make test    install the test extras and run all tests"
	@echo "make check   format, lint, types, docs, tests"
	@echo "make soak    tests that take minutes to hours"
	@echo "make docs    write the generated pages of docs/ anew"
	@echo "make bench   benchmarks (each file in benchmarks/ has --help)"
	@echo "make clean   remove the virtual environment and $(ATLAS)"

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[test,check,excel]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/atlas demo $(ATLAS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not soak" $(PYTEST_ARGS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

static: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/build.py --check

check: static test

docs: $(VENV)/.installed-test
	$(BIN)/python docs/build.py

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(ATLAS)
