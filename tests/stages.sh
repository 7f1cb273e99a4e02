# shellcheck shell=bash
#
# stages.sh - the stages of `./dev test`, each a function; sourced by dev.
#
# A stage writes its results to build-results, in files that start with its name:
# what meson and pytest write about their tests (JUnit), and a line in
# STAGE.own.txt for anything without such a file (`passed NAME` or `FAILED NAME`).
# tests/tally.py sums them up at the end. A stage without results has failed.

all_stages="unit e2e asan tsan fuzz lab docker"
results=$PWD/build-results
pytest_args=()
asan_options=("-Db_sanitize=address,undefined" -Db_lundef=false)
tsan_options=(-Db_sanitize=thread -Db_lundef=false)
ahead_pid=
other_ports=STENT_TEST_PORTS=10000-11999	# of stages that run beside others with the same network
at_once=6	# tests mostly wait, for timers and for other programs

# Compiling the tests takes each of pytest's processes seconds: the first one keeps the result, outside of the folders of the clone.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$results/pycache
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp

# note passed|FAILED NAME: a result of our own.
note() { echo "$*" >>"$results/$stage.own.txt" || die 1 "cannot write a result"; }

# check NAME COMMAND...: one result of our own, by the command's exit status.
check() {
	local name=$1
	shift
	if "$@"; then note passed "$name"; else note FAILED "$name"; return 1; fi
}

# Builds with clang or gcc, or notes the failure.
build_for_test() {
	check "$1 builds without a warning" build "$@" -Dtests=enabled
}

# meson_tests DIR [OPTION...]: the unit tests of a build.
meson_tests() {
	local dir=$1
	shift
	rm -f "$dir/meson-logs/testlog.junit.xml"
	steady_addresses meson test -C "$dir" --no-rebuild --print-errorlogs --quiet "$@" || true
	cp "$dir/meson-logs/testlog.junit.xml" "$results/$stage.unit-$dir.xml" || note FAILED "unit tests of $dir"
}

# marked MARK: the files that may have it, and folders all of whose tests have it. Tests of one file that another one imports come
# with their marks. Each of pytest's processes imports and collects all that it is given.
marked() {
	grep -lrE --include='*.py' "mark\.$1\>|^from test_" tests | sed 's,/conftest\.py$,,' | LC_ALL=C sort |
		awk '!(last && index($0, last "/") == 1) { print; last = $0 }'
}

# pytest_tests MARKS N [WORD...]: the tests with those marks, N at a time, under a command if given.
pytest_tests() {
	local marks=$1 n=$2 status=0 files=(tests)
	shift 2
	if [[ $marks != *" "* ]]; then mapfile -t files < <(marked "$marks"); fi
	"$@" "${python:?}" -m pytest "${files[@]}" -q -ra --durations=5 -m "$marks" -n "$n" --dist "${dist:-loadfile}" \
		--junitxml="$results/$stage.pytest.xml" --note-failed="$results/$stage.failed.txt" "${pytest_args[@]}" || status=$?
	# 0: all passed, 1: some failed (the file has them); else pytest stopped early, or found no test
	[ $status -le 1 ] || note FAILED "pytest ended with status $status"
	[ $status -ne 1 ] || printf '%s' "${*@Q}" >"$results/$stage.words"	# nothing, without words
}

# alone: a few tests of $stage that failed beside others once more, when all stages have ended, one at a time. What fails again
# is a fault. What passes is named by tests/tally.py: it depends on how busy the machine is, and is to be mended. Not what a
# sanitizer has reported.
alone() {
	local failed=() options=() words=()
	[ ! -e "$results/$stage.failed.txt" ] || mapfile -t failed < <(sort -u "$results/$stage.failed.txt" | sed 's,^,tests/,')
	if [ ${#failed[@]} -eq 0 ] || [ ${#failed[@]} -gt 12 ]; then return 0; fi
	if [[ " ${pytest_args[*]} " == *" --long "* ]]; then options+=(--long); fi
	eval "words=($(<"$results/$stage.words"))"
	say "$stage: once more, alone: ${failed[*]}"
	"${words[@]}" "${python:?}" -m pytest "${failed[@]}" -q -ra "${options[@]}" --junitxml="$results/$stage.alone.xml" || true
}

# Passes the environment that the tests need on to root, also through sudo. Root leaves no files here.
in_root() {
	as_root env PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX="$PYTHONPYCACHEPREFIX" STENT_TEST_RUN="$STENT_TEST_RUN" "$@"
}

# Old sanitizers fail on kernels with much address randomisation.
steady_addresses() {
	if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

# --- what is prepared while tests wait ---
# Builds of later stages need the processor and no clock. They are made from the beginning on, one after the other, by a
# process that gets the processor only when nothing else wants it. A stage waits for its build, and then calls it itself:
# what failed here fails there again, and is reported.

# ahead NAME COMMAND...: prepares one thing, for wait_ahead NAME.
ahead() {
	local name=$1
	shift
	"$@" >"$results/ahead-$name.log" 2>&1 || true
	touch "$results/ahead-$name"
}

# prepare_ahead STAGE...
prepare_ahead() {
	local stage
	chrt -i -p 0 "$BASHPID" || renice -n 19 -p "$BASHPID"
	"$python" -m pytest tests --collect-only -q || true	# the tests are compiled then
	for stage; do
		case $stage in
		asan) CC=clang ahead build-asan build build-asan "${asan_options[@]}" -Dtests=enabled ;;
		tsan) CC=clang ahead build-tsan build build-tsan "${tsan_options[@]}" -Dtests=enabled ;;
		fuzz) ahead build-fuzz tests/fuzz/run.sh --build ;;
		esac
	done
} >/dev/null 2>&1

# wait_ahead NAME: until it is prepared, if it was begun.
wait_ahead() {
	while [ -n "$ahead_pid" ] && [ ! -e "$results/ahead-$1" ] && kill -0 "$ahead_pid" 2>/dev/null; do sleep 0.1; done
}

# --- the stages ---

stage_unit() {	# the unit tests, built with gcc without a warning; with clang: asan
	build_for_test build && meson_tests build
}

stage_e2e() {	# the program, with real servers and clients
	build_for_test build && pytest_tests "not lab and not docker" "$at_once"
}

stage_asan() {	# unit and end-to-end tests with address and leak checks
	local unit_pid
	wait_ahead build-asan
	CC=clang build_for_test build-asan "${asan_options[@]}" || return 0
	# The unit tests, while the others wait for their timers: those watch the clock, and come first.
	{ renice -n 10 -p "$BASHPID" >/dev/null; meson_tests build-asan --timeout-multiplier 4; } &
	unit_pid=$!
	pytest_tests "not lab and not docker and not malloc and not plain" 7 \
		steady_addresses env STENT_BIN=build-asan/stent STENT_TEST_SLOW=3
	wait "$unit_pid" || true
}

stage_tsan() {	# unit and end-to-end tests of threads with race checks
	wait_ahead build-tsan
	CC=clang build_for_test build-tsan "${tsan_options[@]}" || return 0
	meson_tests build-tsan
	pytest_tests workers 4 steady_addresses env STENT_BIN=build-tsan/stent STENT_TEST_SLOW=5
}

stage_fuzz() {	# fuzzes the codecs for a minute in all
	local log=$results/fuzz.log status=0
	wait_ahead build-fuzz
	nice tests/fuzz/run.sh 60 2>&1 | tee "$log" || status=$?	# beside stages that watch the clock
	sed -nE 's/^([a-z0-9_]+): [0-9]+ inputs in .*/passed fuzzing \1/p; s/^([a-z0-9_]+): FAILED.*/FAILED fuzzing \1/p' \
		"$log" >>"$results/fuzz.own.txt"
	[ $status = 0 ] || note FAILED "fuzzing ended with status $status"
}

stage_lab() {	# cut cables and stateful firewalls, in network namespaces
	build_for_test build && dist=load pytest_tests lab 10 in_root env "$other_ports"	# they mostly wait, and share no server
}

stage_docker() {	# the image and the compose files, with a real engine
	pytest_tests docker 0 in_root env "$other_ports"
}

# Processes that tests left running, found by a mark in their environment.
left_running() {
	local pid pids found=""
	mapfile -t pids < <(grep -lsz "^STENT_TEST_RUN=$STENT_TEST_RUN$" /proc/[0-9]*/environ | cut -d/ -f3)
	for pid in "${pids[@]}"; do
		if [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || [ ! -e "/proc/$pid/exe" ]; then continue; fi
		say "left running: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		as_root kill -9 "$pid" || true
		found=yes
	done
	[ -n "$found" ]
}

left_nothing_running() { ! left_running; }

clone_status() { git status --porcelain 2>/dev/null || true; }

# Words up to the first that is not a stage are stages; the rest is for pytest.
# Words for pytest without a stage mean the end-to-end tests, but --long: all tests, the long ones too.
test_all() {
	local stages="" stage before began=$SECONDS
	while [ $# -gt 0 ]; do
		case " $all_stages " in
		*" $1 "*) stages+=" $1" ;;
		*) if [ "$1" = --long ]; then pytest_args+=(--long); else break; fi ;;
		esac
		shift
	done
	[ -n "$stages" ] || if [ $# -gt 0 ]; then stages=e2e; else stages=$all_stages; fi
	pytest_args+=("$@")
	rm -rf "$results" && mkdir -p "$results"
	export STENT_TEST_RUN=$$-$RANDOM
	before=$(clone_status)
	# shellcheck disable=SC2086	# names, a word each
	{
		prepare_ahead $stages &
		ahead_pid=$!
		trap 'kill "$ahead_pid" 2>/dev/null || true' EXIT
		together "$stages" unit
		together "$stages" e2e
		together "$stages" asan docker	# the deadlines of asan are three times as long, and docker waits for its images
		together "$stages" lab tsan fuzz
		wait "$ahead_pid" || true
		for stage in $stages; do alone; done
	}
	stage=end
	check "nothing is left running" left_nothing_running || true
	check "the clone is as it was" [ "$before" = "$(clone_status)" ] || true
	say "$((SECONDS - began)) s in all"
	# shellcheck disable=SC2086	# names, a word each
	"$python" tests/tally.py "$results" $stages end
}

# together ASKED STAGE...: those of the stages that were asked for, at the same time. What the first one prints comes at once,
# what the others print when it has ended.
together() {
	local asked=$1 others=() pids=() first="" i
	shift
	for stage; do
		case " $asked " in *" $stage "*) ;; *) continue ;; esac
		if [ -z "$first" ]; then first=$stage; continue; fi
		run_stage >"$results/$stage.out" 2>&1 &
		pids+=($!)
		others+=("$stage")
	done
	[ -n "$first" ] || return 0
	stage=$first
	run_stage
	for i in "${!pids[@]}"; do
		wait "${pids[$i]}" || true
		cat "$results/${others[$i]}.out" >&2
	done
}

# Runs the stage named by $stage.
run_stage() {
	local began=$SECONDS
	say "--- $stage: $(sed -nE "s/^stage_$stage\(\) \{[[:space:]]+# (.*)/\1/p" tests/stages.sh)"
	"stage_$stage" || true
	say "--- $stage: $((SECONDS - began)) s"
}
