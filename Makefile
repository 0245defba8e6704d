# Each target does its own set-up and says what it installs. ARGS= is passed on.

ARGS ?=
PY := .venv/bin/python

.PHONY: setup demo test soak lint bench docs clean

setup:
	@tools/setup.sh

demo:
	@tools/setup.sh demo
	@.venv/bin/wattveil demo $(ARGS)

# pytest's closing line stays the last one printed.
test: setup
	@$(PY) -m pytest -n 2 $(ARGS)

# The long versions of what CI runs a little of: about an hour on two cores.
soak: setup
	@WATTVEIL_SOAK=1 $(PY) -m pytest -n 2 -rP tests/soak tests/test_stateful_roles.py tests/test_web_chromium.py $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy host tools
	.venv/bin/shellcheck tools/*.sh .ci/run
	$(PY) tools/lint_firmware.py
	$(PY) tools/make_package.py --check
	.venv/bin/pyright --project firmware
	.venv/bin/pyright --project firmware/pyrightconfig.esp32.json

bench: setup
	@.venv/bin/wattveil bench all $(ARGS)

# The documentation as a site, in build/docs; warnings are errors.
docs: setup
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict $(ARGS)
	@echo build/docs/index.html

clean:
	rm -rf .venv .setup.lock firmware/typings .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find host firmware tests hil_tests tools -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
