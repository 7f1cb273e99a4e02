# shellcheck shell=bash
#
# coverage.sh - `./dev coverage`: which lines and branches of src the tests run; sourced by dev after stages.sh.
#
# Everything runs with one instrumented build: unit tests, the corpora of the fuzz targets, the simulation, and as root the tests of
# the program, also those in network namespaces. What a killed process (kill -9) did is not counted: it writes its counters
# at its end. Not run: the image, whose program is another build.
#
# Not counted as branches: the two outcomes of an assertion, of which one cannot happen.

coverage_dir=build-coverage

# Counters are written by whichever user the program has become. Without optimization, so that each branch is the source's; with
# counters gcc warns of variables that it knows to be set without them.
coverage_build() {
	umask 0
	CC=gcc build $coverage_dir -Db_coverage=true -Dtests=enabled -Dfuzz=true -Dc_args=-fprofile-update=atomic -Doptimization=0 -Dwerror=false
	find $coverage_dir -name '*.gcda' -delete
}

coverage_report() {
	gcovr -j "$(nproc)" -r . $coverage_dir --filter src/ --exclude-branches-by-pattern '^\s*assert\(' --gcov-ignore-parse-errors \
		--json-summary $coverage_dir/summary.json --html-details $coverage_dir/report.html >/dev/null
	"${python:?}" tests/coverage.py $coverage_dir/summary.json
}

# The words are for pytest: `./dev coverage -k NAME` counts only what those tests run, with the unit tests. A test that fails is shown, and
# what it ran is counted. There is no sandbox in this build: its tests are for others. Two of tests/e2e/test_machine_faults.py fail here, as
# the counters' own calls and allocations fail too, and one of test_systemd.py, as the umask makes its files writable for all.
coverage_all() {
	local stage=coverage
	pytest_args=(--ignore=tests/e2e/test_sandbox.py "$@")
	rm -rf "${results:?}" && mkdir -p "$results"
	export STENT_BIN=$PWD/$coverage_dir/stent STENT_TEST_SLOW=2 STENT_TEST_RUN=$$-$RANDOM
	coverage_build
	meson_tests $coverage_dir
	$coverage_dir/tests/sim/sim --seed 1 --runs 200 >/dev/null || note FAILED "simulation"
	pytest_tests "not docker" "$at_once" as_root env STENT_BIN="$STENT_BIN" STENT_TEST_SLOW=2 STENT_TEST_RUN="$STENT_TEST_RUN" PYTHONDONTWRITEBYTECODE=1
	"$python" tests/tally.py "$results" coverage || true
	coverage_report
}
