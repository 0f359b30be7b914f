#!/usr/bin/env bash
# The CIFAR-100 sweep: frozen code, its own environment, records that come home by commits.
#
#   tools/resume_sweep.sh start      rebuild worktree, environment and data, and go on in the background (nice 19)
#   tools/resume_sweep.sh collect    copy new records into results/, make their pages anew, and commit both
#   tools/resume_sweep.sh stop       SIGTERM, wait for the checkpoints, collect
#   tools/resume_sweep.sh status     the last lines of the log
#
# The frozen commit stands in tools/sweep_commit. $SWEEP (default /tmp/senet-sweep) may vanish at any time.
# CIFAR-100 comes from ../shared/data, or from $SENET_ABLATE_DATA.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
recipe=cifar100-cpu
commit=$(cat tools/sweep_commit)
sweep=${SWEEP:-/tmp/senet-sweep}
runs=results/$recipe/runs
pages=(results/$recipe results/README.md results/forest.svg results/shown.svg) # all that follows from records

running() { # another process may have the number by now
    [ -f "$sweep/pid" ] && grep -q tools/sweep.py "/proc/$(cat "$sweep/pid")/cmdline" 2>/dev/null
}

collect() {
    mkdir -p "$runs"
    local new=0 name
    for record in "$sweep/results/$recipe/runs"/*.json; do
        [ -f "$record" ] || continue
        name=$(basename "$record")
        [ -f "$runs/$name" ] || { cp "$record" "$runs/.$name.tmp" && mv "$runs/.$name.tmp" "$runs/$name" && new=$((new + 1)); }
    done
    git add "$runs"
    if ! git diff --cached --quiet -- "$runs"; then
        # the pages follow from the records, so they go with them
        if [ -x .venv/bin/python ]; then
            .venv/bin/python -m senet_ablate report --recipe "$recipe" >/dev/null
            if [ -z "$(git status --porcelain -- README.md)" ]; then # else somebody is writing it
                .venv/bin/python tools/paste_tables.py
                pages+=(README.md)
            fi
        fi
        git add "${pages[@]}"
        git commit --quiet -m "cifar100-cpu: $(ls "$runs" | wc -l) records of the sweep at ${commit:0:12}" -- "${pages[@]}"
    fi
    echo "$new new records, $(ls "$runs" | wc -l) in all"
}

case ${1:-status} in
start)
    running && { echo "already running: $(cat "$sweep/pid")"; exit 0; }
    mkdir -p "$sweep/results/$recipe/runs" "$sweep/data"
    [ -O "$sweep" ] || { echo "$sweep is somebody else's folder; name another as SWEEP" >&2; exit 1; }
    git worktree prune
    [ -d "$sweep/code" ] || git worktree add --detach "$sweep/code" "$commit"
    [ "$(git -C "$sweep/code" rev-parse HEAD)" = "$commit" ] || { echo "$sweep/code is not at $commit" >&2; exit 1; }
    if [ ! -x "$sweep/.venv/bin/senet-ablate" ]; then
        python3 -m venv "$sweep/.venv"
        grep == "$sweep/code/requirements.txt" | sed 's/ *#.*//' >"$sweep/constraints.txt"
        "$sweep/.venv/bin/pip" install --quiet --disable-pip-version-check -e "$sweep/code" -c "$sweep/constraints.txt"
    fi
    data=${SENET_ABLATE_DATA:-$sweep/data}
    if [ ! -d "$data/cifar100" ] && [ ! -d "$data/cifar-100-python" ]; then
        "$sweep/.venv/bin/python" ../shared/data/unpack.py cifar100 "$data/partial"
        mv "$data/partial/cifar100" "$data/"
    fi
    if [ -d "$runs" ]; then cp -n "$runs"/*.json "$sweep/results/$recipe/runs/" 2>/dev/null || true; fi
    cd "$sweep/code"
    setsid nohup nice -n 19 "$sweep/.venv/bin/python" tools/sweep.py $recipe --results "$sweep/results" --data "$data" \
        >>"$sweep/log" 2>&1 &
    echo $! >"$sweep/pid"
    # Where the kernel groups processes by session, nice counts within a group only: the group gets it, too.
    sleep 1 && echo 19 2>/dev/null >"/proc/$(cat "$sweep/pid")/autogroup" || true
    echo "started: $(cat "$sweep/pid"), log $sweep/log"
    ;;
collect) collect ;;
stop)
    if running; then
        kill -TERM "$(cat "$sweep/pid")"
        while running; do sleep 1; done
    fi
    collect
    ;;
status)
    running && echo "running: $(cat "$sweep/pid")" || echo "not running"
    tail -n 5 "$sweep/log" 2>/dev/null || true
    ;;
*)
    sed -n '2,10p' tools/resume_sweep.sh
    exit 2
    ;;
esac
