#!/usr/bin/env bash
# Reproduce the ablation tables: ./run_all.sh runs the two recipes that need no download;
# ./run_all.sh RECIPE [OPTION ...] runs another one, e.g. ./run_all.sh cifar100 --seeds 5 --data ~/data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "run_all.sh: needs Python 3.11 or newer as '$python'; name another with PYTHON=/path/to/python ./run_all.sh" >&2
    exit 2
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
installed=.venv/requirements.installed # what pip last installed, so that a second run needs no network
if ! cmp -s requirements.txt "$installed"; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$installed"
fi

if [ $# -gt 0 ]; then
    recipe=$1
    shift
    exec .venv/bin/python -m senet_ablate run --recipe "$recipe" "$@"
fi
status=0
for recipe in cue digits; do
    .venv/bin/python -m senet_ablate run --recipe "$recipe" || status=$?
    [ $status -lt 2 ] || exit $status
done
echo "Tables and plots: results/cue/README.md and results/digits/README.md"
exit $status
