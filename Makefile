# Each target does its own set-up and says what it installs. ARGS= is passed on.

ARGS ?=
PY := .venv/bin/python

.PHONY: setup demo test lint bench clean

setup:
	@tools/setup.sh

demo: setup
	@.venv/bin/wattveil demo $(ARGS)

# pytest's closing line stays the last one printed.
test: setup
	@$(PY) -m pytest -n 2 $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy host tools
	.venv/bin/shellcheck tools/*.sh .ci/run
	$(PY) tools/lint_firmware.py
	.venv/bin/pyright --project firmware

bench: setup
	@.venv/bin/wattveil bench all $(ARGS)

clean:
	rm -rf .venv .setup.lock firmware/typings .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find host firmware tests hil_tests tools -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
