#!/usr/bin/env bash
# A sweep on a machine with a GPU and without a network: pack here, run there, collect here.
#
#   tools/gpu_sweep.sh pack BUNDLE [CACHE]      here: the code of HEAD with its commit, and the decoded image set CACHE
#                                               (a folder DATA/cache/NAME-KEY), in files of at most $MIB MiB (16);
#                                               wheels that the machine lacks lie in $WHEELS, if any
#   BUNDLE/gpu_sweep.sh probe WORK [OPTION...]  there: measure which settings to sweep with (options of gpu_probe.py)
#   BUNDLE/gpu_sweep.sh run WORK ARCHIVE RUN... there: `senet_ablate run RUN... --no-report` for at most $LIMIT seconds
#                                               (1500), then checkpoints are written and records packed into ARCHIVE
#   BUNDLE/gpu_sweep.sh bench WORK PART...      there: `senet_ablate bench PART...`; its facts go into the next ARCHIVE
#   tools/gpu_sweep.sh collect ARCHIVE          here: records and facts into results/, and pages from them
#
# WORK survives between calls on one machine: `run` again goes on where it stopped. $PYTHON is the Python with torch.
set -euo pipefail
verb=${1:-help}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

unpack() { # WORK: code and wheels of this bundle, images once
    work=$(mkdir -p "$1" && cd "$1" && pwd)
    export PYTHONPATH="$work/code:$work/site" PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 # not the code of the folder one is in
    local wheels=("$here"/wheels/*) bundle
    bundle="$(<"$here/COMMIT") ${wheels[*]##*/}"
    if [ ! -f "$work/unpacked" ] || [ "$(<"$work/unpacked")" != "$bundle" ]; then
        rm -rf "$work/code" "$work/site"
        mkdir -p "$work/code" "$work/site" "$work/data/cache" "$work/results"
        tar -xf "$here/code.tar" -C "$work/code"
        for wheel in "$here"/wheels/*.whl; do
            if [ -f "$wheel" ]; then "$python" -m zipfile -e "$wheel" "$work/site"; fi
        done
        echo "$bundle" >"$work/unpacked"
    fi
    compgen -G "$here/cache-*.tar" >/dev/null || return 0
    local images
    images=$("$python" -c 'import hashlib, sys; [print(hashlib.sha256(open(p, "rb").read()).hexdigest()) for p in sys.argv[1:]]' "$here"/cache-*.tar)
    if [ ! -f "$work/images" ] || [ "$(<"$work/images")" != "$images" ]; then
        "$python" "$work/code/tools/pack_cache.py" unpack "$here" "$work/data/cache"
        echo "$images" >"$work/images"
    fi
}

case $verb in
pack)
    bundle=$2
    [ -z "$(git status --porcelain -- senet_ablate experiments tools)" ] || { echo "commit first: the records name the commit" >&2; exit 2; }
    rm -rf "$bundle" && mkdir -p "$bundle/wheels"
    git archive --format=tar HEAD senet_ablate experiments tools pyproject.toml >"$bundle/code.tar"
    # Without git, provenance knows the commit from this file, as long as the code is the one that it names.
    "$python" -c "from senet_ablate.records.commit import code_state, training_code; print(code_state()[0], training_code())" >"$bundle/COMMIT"
    tar -rf "$bundle/code.tar" -C "$bundle" COMMIT
    if [ -n "${WHEELS:-}" ]; then cp "$WHEELS"/*.whl "$bundle/wheels/"; fi
    if [ -n "${3:-}" ]; then "$python" tools/pack_cache.py pack "$3" "$bundle" --mib "${MIB:-16}"; fi
    cp tools/gpu_sweep.sh "$bundle/"
    du -sh "$bundle"
    ;;
probe)
    unpack "$2"
    "$python" "$work/code/tools/gpu_probe.py" --out "$work/probe.json" "${@:3}"
    ;;
bench)
    unpack "$2"
    "$python" -m senet_ablate bench "${@:3}" --results "$work/results"
    ;;
run)
    unpack "$2"
    archive=$3
    # SIGINT is Ctrl-C: runs in progress write their checkpoints, and no page is made. 124: the time was up.
    code=0
    timeout --foreground --signal=INT --kill-after=90 "${LIMIT:-1500}" \
        "$python" -m senet_ablate run "${@:4}" --no-report --results "$work/results" --data "$work/data" || code=$?
    [ "$code" != 124 ] || echo "the time was up; the same command goes on"
    [ ! -f "$work/probe.json" ] || cp "$work/probe.json" "$work/results/"
    tar -czf "$archive" -C "$work/results" --exclude=checkpoints --exclude='*.lock' .
    echo "$(find "$work/results" -path '*/runs/*.json' | wc -l) records in $archive"
    [ "$code" = 124 ] || [ "$code" = 130 ] || exit "$code"
    ;;
collect)
    fresh=$(mktemp -d)
    tar -xzf "$2" -C "$fresh"
    find "$fresh" -type l -delete # a link could lead to files of one's own
    for folder in "$fresh"/*/; do
        recipe=$(basename "$folder")
        mkdir -p "results/$recipe"
        while read -r file; do
            if [ ! -e "results/$recipe/$file" ]; then
                mkdir -p "$(dirname "results/$recipe/$file")"
                cp "$folder$file" "results/$recipe/$file"
            elif ! cmp -s "$folder$file" "results/$recipe/$file"; then
                echo "not taken: results/$recipe/$file is there and differs; the other stays in $2" >&2
            fi
        done < <(cd "$folder" && find . -type f | sed 's|^[.]/||')
        if [ "$recipe" = bench ]; then "$python" -m senet_ablate report && continue; fi
        "$python" -m senet_ablate report --recipe "$recipe"
        "$python" -m senet_ablate verify --recipe "$recipe"
    done
    if [ -f "$fresh/probe.json" ]; then echo "the probe's findings stay in $2: put its probe.json beside the records it was for"; fi
    rm -rf "$fresh"
    ;;
*)
    sed -n '2,17p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
