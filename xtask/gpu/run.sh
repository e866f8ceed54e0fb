#!/usr/bin/env bash
# Checks, tests and measures segfuse on this machine's GPU, in less than ten minutes, with nothing but a driver; peers in Python
# where python3 has torch. What each step says is in out/NAME.log; the short table comes last, and out/result.json beside it.
#
#   ./run.sh                everything
#   REHEARSAL=1 ./run.sh    where there is no GPU: the same on the software driver, with few cases and small shapes
set -uo pipefail
cd "$(dirname "$0")" || exit 1
here=$PWD
out=$here/out
# What an earlier run found is not of this one.
rm -rf "$out"
mkdir "$out"
rehearsal=${REHEARSAL:-}
limit=${LIMIT:-580}      # seconds for everything
failed=0                 # steps that failed, or were stopped because they took too long
missing=0                # steps that no time was left for
summary=()

# Tests look for the vectors below this.
export CARGO_MANIFEST_DIR=$here
export RUST_BACKTRACE=1
# Tests look for the software driver themselves; to programs of users, which never do, a rehearsal gives it by its name.
program=(env)
if [[ -z $rehearsal ]]; then
    export SEGFUSE_TEST_DRIVER=system
else
    unset SEGFUSE_TEST_DRIVER
    program=(env LD_PRELOAD="$here/bin/libsoftcuda.so")
fi

left() { echo $((limit - SECONDS)); }

# step NAME SECONDS COMMAND…: at most so many seconds, and no more than are left.
step() {
    local name=$1 most=$2 begin=$SECONDS status
    shift 2
    # The limits are a GPU's; a processor that others use too is slower.
    [[ -n $rehearsal ]] && ((most *= 5))
    local time=$(left)
    ((time > most)) && time=$most
    if ((time < 5)); then
        summary+=("$(printf '%-28s no time left' "$name")")
        missing=$((missing + 1))
        return 0
    fi
    printf '%-28s ' "$name"
    timeout --kill-after=5 "$time" "$@" >"$out/$name.log" 2>&1
    status=$?
    local took=$((SECONDS - begin)) word=passed
    case $status in
        0) ;;
        124 | 137) word="STOPPED"; failed=$((failed + 1)) ;;
        *) word="FAILED ($status)"; failed=$((failed + 1)) ;;
    esac
    printf '%s, %s s\n' "$word" "$took"
    summary+=("$(printf '%-28s %s, %s s' "$name" "$word" "$took")")
    if [[ $word != passed ]]; then
        tail -n 12 "$out/$name.log" | sed 's/^/    /'
    fi
}

has() { command -v "$1" >/dev/null 2>&1; }

date -u +%FT%TZ >"$out/date.txt"
has nvidia-smi && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv \
    | tee "$out/nvidia-smi.txt"
if [[ -n $rehearsal ]]; then
    step not-by-itself 30 bash -c 'set -o pipefail; LD_LIBRARY_PATH=$PWD/bin bin/segfuse devices | tee /dev/stderr | { ! grep softcuda; }'
fi
step devices 30 "${program[@]}" bin/segfuse devices
cat "$out/devices.log"

step check 60 "${program[@]}" bin/segfuse check --device cuda --cases "${CASES:-300}"
step eval 20 "${program[@]}" bin/segfuse eval --device cuda --loss "dice + ce" --pred logits.npy --target mask.npy --ignore-label 255
step raw-f16 20 "${program[@]}" bin/cuda_raw f16 "${STEPS:-20}"
step raw-f32 20 "${program[@]}" bin/cuda_raw f32 "${STEPS:-20}"
# A kernel that faults ends the context, and with it the rest of a process: so each group has a process of its own.
for group in errors memory order sizes stages one_block distances; do
    step "cuda-$group" 60 bin/cuda_backend --test-threads=2 "$group::"
done

sanitizer=
for place in compute-sanitizer /usr/local/cuda/bin/compute-sanitizer; do
    has "$place" && sanitizer=$place && break
done
if [[ -n $sanitizer && -z $rehearsal ]]; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "sanitizer-$tool" 45 "$sanitizer" --tool "$tool" --error-exitcode 9 \
            bin/cuda_backend --test-threads=1 stages::of_labels one_block::in_place distances::maps_are_written
    done
else
    summary+=("$(printf '%-28s not there' compute-sanitizer)")
fi

# Each definition for so long.
seconds=${BENCH_SECONDS:-0.4}
wgpu=wgpu
# Of software renderers none is taken unless it is named.
[[ -n $rehearsal ]] && wgpu=wgpu:0
bench=(bench --definitions definitions.toml --seconds "$seconds")
step bench-cuda 120 "${program[@]}" bin/segfuse "${bench[@]}" --device cuda --json "$out/cuda.json"
if grep -q 'wgpu:0' "$out/devices.log"; then
    step bench-wgpu 120 bin/segfuse "${bench[@]}" --device "$wgpu" --json "$out/wgpu.json"
fi
# Through criterion: once each, as its own statistics take minutes.
SEGFUSE_BENCH_DEVICE=cuda SEGFUSE_BENCH_DEFINITIONS=definitions.toml \
    step criterion-cuda 60 "${program[@]}" bin/losses --test "on cuda"

python=
for candidate in "${PYTHON:-}" python3 python; do
    [[ -n $candidate ]] && has "$candidate" && python=$candidate && break
done
if [[ -n $python ]]; then
    if "$python" -c 'import torch' >/dev/null 2>&1; then
        step peers 150 "$python" peers.py definitions.toml "$out/peers.json"
    else
        summary+=("$(printf '%-28s %s has no torch' peers "$python")")
    fi
fi

# Last, as they take the longest: they stop where the time is up.
step cuda-vectors 90 bin/vectors cuda::
step cuda-distance 60 bin/distance cuda::
SEGFUSE_TEST_CASES=${CASES:-2000} step cuda-properties 90 bin/properties cuda::
step cuda-custom 40 bin/custom cuda::
step cuda-determinism 60 bin/determinism cuda::
if [[ -z $rehearsal ]] && grep -q 'wgpu:0' "$out/devices.log"; then
    step wgpu-backend 60 bin/wgpu_backend --test-threads=2
fi

printf '\n'
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
printf '\n'
if [[ -n $python ]]; then
    "$python" report.py "$out"
else
    for log in bench-cuda bench-wgpu; do
        [[ -e $out/$log.log ]] && cat "$out/$log.log"
    done
fi
printf '\n%s s in all, %s failed, %s had no time; everything is in %s\n' "$SECONDS" "$failed" "$missing" "$out"
((failed + missing == 0))
