#!/usr/bin/env bash
# The fast loop: format, lint, types, fast tests. The whole suite is `.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/ruff format .
.venv/bin/ruff check --fix .
.venv/bin/mypy
.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" "$@"
