#!/usr/bin/env bash
# Reproduce the ablation tables.
#   ./run_all.sh                      trains the two recipes that need no download: cue and digits
#   ./run_all.sh RECIPE [OPTION ...]  trains another one: ./run_all.sh cifar100 --seeds 5 --data ~/data
# A recipe with committed records is trained anew into reproductions/ and compared with them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "run_all.sh: needs Python 3.11 or newer as '$python'; name another with PYTHON=/path/to/python ./run_all.sh" >&2
    exit 2
fi

# Without an NVIDIA GPU PyTorch's own index has a build without CUDA, of a twentieth of the size; both packages must
# come from there. Where it cannot be reached or lacks these versions, the usual build does the same.
packages() {
    local pip=(.venv/bin/python -m pip install --disable-pip-version-check --progress-bar off)
    if [ "$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
        "${pip[@]}" --timeout 10 --retries 0 --index-url https://download.pytorch.org/whl/cpu --no-deps \
            $(grep -E '^torch(vision)?==' requirements-run.txt) || true
    fi
    exec "${pip[@]}" -r requirements-run.txt # so that whoever ends this ends pip
}

# Installs requirements-run.txt into .venv, and shows that it goes on: seconds, size, what pip does.
install() {
    local log=.venv/install.log pip pause=30 end='\n'
    [ -t 2 ] && pause=2 end='\r'
    echo "installing what running needs into .venv, the $(grep -c == requirements-run.txt) packages of" \
        "requirements-run.txt and theirs: up to 5.7 GB, most of it PyTorch with CUDA's libraries" >&2
    packages >"$log" 2>&1 &
    pip=$!
    trap 'kill $pip $(pgrep -P $pip 2>/dev/null) 2>/dev/null || true; exit 130' INT TERM
    SECONDS=0
    sleep 1
    while kill -0 $pip 2>/dev/null; do
        printf "%4d s, %5d MB, %-60.60s$end" $SECONDS "$(du -sm .venv | cut -f 1)" "$(tail -n 1 "$log")" >&2
        for ((tick = 0; tick < pause; tick++)); do kill -0 $pip 2>/dev/null || break; sleep 1; done
    done
    trap - INT TERM
    if ! wait $pip; then
        printf '\n' >&2
        tail -n 5 "$log" >&2
        echo "run_all.sh: the installation failed; all of its output is in $log" >&2
        exit 2
    fi
    printf '%4d s, installed%70s\n' $SECONDS '' >&2
}

# pip comes last into an environment: without it, making one was broken off.
there=$([ -d .venv ] && echo yes || true)
if [ ! -x .venv/bin/pip ] && ! "$python" -m venv .venv; then
    [ -n "$there" ] || rm -rf .venv
    echo "run_all.sh: '$python -m venv' failed (on Debian and Ubuntu: apt install python3-venv)" >&2
    exit 2
fi
installed=.venv/requirements.installed # what was last installed, so that a second run needs no network
if ! cmp -s requirements-run.txt "$installed"; then
    install
    cp requirements-run.txt "$installed"
fi

# Trains a recipe: anew, and compares, where it has committed records.
train() {
    local recipe=$1 verb=run
    shift
    if [ -z "${SENET_ABLATE_RESULTS:-}" ] && [[ " $* " != *" --results"* ]] &&
        compgen -G "results/$recipe/runs/*.json" >/dev/null; then
        verb=reproduce
    fi
    .venv/bin/python -m senet_ablate "$verb" --recipe "$recipe" "$@"
}

if [ $# -gt 0 ]; then
    train "$@"
    exit
fi
status=0
for recipe in cue digits; do
    train "$recipe" || status=$?
    [ $status -lt 2 ] || exit $status
done
echo "How far this machine agrees with the committed evidence:"
for recipe in cue digits; do
    page=reproductions/$recipe/agreement.md
    if [ -f "$page" ]; then
        echo "$recipe ($page)"
        sed -n 's/^- /  /p' "$page"
    fi
done
exit $status
