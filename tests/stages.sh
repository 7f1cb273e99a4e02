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
at_once=6	# tests mostly wait, for timers and for other programs

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

# pytest_tests MARKS N [WORD...]: the tests with those marks, N at a time, under a command if given.
pytest_tests() {
	local marks=$1 n=$2 status=0
	shift 2
	PYTHONDONTWRITEBYTECODE=1 "$@" "${python:?}" -m pytest tests -q -ra --durations=5 -m "$marks" -n "$n" --dist "${dist:-loadfile}" \
		--junitxml="$results/$stage.pytest.xml" "${pytest_args[@]}" || status=$?
	# 0: all passed, 1: some failed (the file has them); else pytest stopped early, or found no test
	[ $status -le 1 ] || note FAILED "pytest ended with status $status"
}

# Passes the environment that the tests need on to root, also through sudo.
in_root() { as_root env PYTHONDONTWRITEBYTECODE=1 STENT_TEST_RUN="$STENT_TEST_RUN" "$@"; }

# Old sanitizers fail on kernels with much address randomisation.
steady_addresses() {
	if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

stage_unit() {	# gcc and clang without a warning, and the unit tests of both
	build_for_test build && meson_tests build
	CC=clang build_for_test build-clang && meson_tests build-clang
}

stage_e2e() {	# the program, with real servers and clients
	build_for_test build && pytest_tests "not lab and not docker" "$at_once"
}

stage_asan() {	# unit and end-to-end tests with address and leak checks
	CC=clang build_for_test build-asan -Db_sanitize=address,undefined -Db_lundef=false || return 0
	meson_tests build-asan
	STENT_BIN=build-asan/stent STENT_TEST_SLOW=3 pytest_tests "not lab and not docker and not malloc and not plain" "$at_once" steady_addresses
}

stage_tsan() {	# unit and end-to-end tests of threads with race checks
	CC=clang build_for_test build-tsan -Db_sanitize=thread -Db_lundef=false || return 0
	meson_tests build-tsan --no-suite codec	# codecs have one thread
	STENT_BIN=build-tsan/stent STENT_TEST_SLOW=5 pytest_tests workers "$at_once" steady_addresses
}

stage_fuzz() {	# fuzzes the codecs for a minute in all
	local log=$results/fuzz.log status=0
	nice tests/fuzz/run.sh 60 2>&1 | tee "$log" || status=$?	# beside stages that watch the clock
	sed -nE 's/^([a-z0-9_]+): [0-9]+ inputs in .*/passed fuzzing \1/p; s/^([a-z0-9_]+): FAILED.*/FAILED fuzzing \1/p' \
		"$log" >>"$results/fuzz.own.txt"
	[ $status = 0 ] || note FAILED "fuzzing ended with status $status"
}

stage_lab() {	# cut cables and stateful firewalls, in network namespaces
	build_for_test build && dist=load pytest_tests lab 6 in_root	# they mostly wait, and share no server
}

stage_docker() {	# the image and the compose files, with a real engine
	pytest_tests docker 0 in_root
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
	for stage in $stages; do
		case $stage in fuzz | lab | docker) ;; *) run_stage ;; esac
	done
	run_beside "$stages"
	stage=end
	check "nothing is left running" left_nothing_running || true
	check "the clone is as it was" [ "$before" = "$(clone_status)" ] || true
	say "$((SECONDS - began)) s in all"
	# shellcheck disable=SC2086	# names, a word each
	"$python" tests/tally.py "$results" $stages end
}

# Those of the stages that mostly wait, or need no clock, at the same time. What they print comes in their turn.
run_beside() {
	local pids=() names=() i
	for stage in fuzz lab docker; do
		case " $1 " in *" $stage "*) ;; *) continue ;; esac
		run_stage >"$results/$stage.out" 2>&1 &
		pids+=($!)
		names+=("$stage")
	done
	for i in "${!pids[@]}"; do
		wait "${pids[$i]}" || true
		cat "$results/${names[$i]}.out" >&2
	done
}

# Runs the stage named by $stage.
run_stage() {
	local began=$SECONDS
	say "--- $stage: $(sed -nE "s/^stage_$stage\(\) \{[[:space:]]+# (.*)/\1/p" tests/stages.sh)"
	"stage_$stage" || true
	say "--- $stage: $((SECONDS - began)) s"
}
