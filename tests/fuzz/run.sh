#!/bin/bash
#
# run.sh [--update] SECONDS [CODEC...] | --build: feeds each target (all, when none is
# named) what nobody would send, for so many seconds of this machine in all,
# as many targets at a time as it has cores. Fails when one of them does; the
# input that did it is left in build-fuzz/found/.
#
# Each starts from tests/fuzz/corpus/CODEC, of which it works on a copy. With
# --update it adds there what reaches code that nothing there did.
# New transcripts of the unit tests get into a corpus by
#	CODEC_CORPUS=tests/fuzz/corpus build/tests/unit/test_CODEC
set -euo pipefail
cd "$(dirname "$0")/../.."

update=
only_build=
if [ "${1:-}" = --update ]; then update=yes; shift; fi
if [ "${1:-}" = --build ]; then only_build=yes; set -- 0; fi
if ! [[ ${1:-} =~ ^[0-9]+$ ]]; then
	sed -n 's/^# //; 3,7p' "$0" >&2
	exit 2
fi
seconds=$1
shift

build="build-fuzz"
[ -e $build/build.ninja ] || CC=clang meson setup $build -Dfuzz=true -Dtests=disabled \
	-Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C $build fuzz >/dev/null
[ -z "$only_build" ] || exit 0

codecs=("$@")
if [ ${#codecs[@]} -eq 0 ]; then
	for target in "$build"/tests/fuzz/fuzz_*; do
		if [ -f "$target" ]; then codecs+=("${target##*/fuzz_}"); fi
	done
fi

jobs=$(nproc)
rounds=$(((${#codecs[@]} + jobs - 1) / jobs))
each=$((seconds / rounds > 0 ? seconds / rounds : 1))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build/found

export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# Old sanitizers and kernels that spread addresses widely do not go together.
steady=()
if setarch -R true 2>/dev/null; then steady=(setarch -R); fi

fuzz() {	# CODEC: its last lines say how far it came
	mkdir -p "$work/$1" "tests/fuzz/corpus/$1"
	timeout -k 10 $((each + 120)) "${steady[@]}" "$build/tests/fuzz/fuzz_$1" \
		-max_total_time="$each" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$build/found/$1-" \
		"$work/$1" "tests/fuzz/corpus/$1" >"$work/$1.log" 2>&1
}

merge() {	# CODEC: adds what reaches code that the corpus does not
	"${steady[@]}" "$build/tests/fuzz/fuzz_$1" -merge=1 -use_counters=0 -max_len=4096 \
		"tests/fuzz/corpus/$1" "$work/$1" >"$work/$1.merge.log" 2>&1
}

failed=0
total=0
for ((i = 0; i < ${#codecs[@]}; i += jobs)); do
	pids=()
	batch=("${codecs[@]:i:jobs}")
	for codec in "${batch[@]}"; do
		fuzz "$codec" &
		pids+=($!)
	done
	for j in "${!batch[@]}"; do
		codec=${batch[j]}
		if wait "${pids[j]}"; then
			runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$codec.log")
			cover=$(grep -o 'cov: [0-9]*' "$work/$codec.log" | tail -n1)
			total=$((total + ${runs:-0}))
			echo "$codec: ${runs:-?} inputs in $each s, ${cover:-no coverage}, none broke a law"
			if [ -n "$update" ]; then merge "$codec"; fi
		else
			echo "$codec: FAILED" >&2
			tail -n 60 "$work/$codec.log" >&2
			failed=1
		fi
	done
done
echo "$total inputs in all, to ${#codecs[@]} targets"
exit $failed
