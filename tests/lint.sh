#!/usr/bin/env bash
#
# lint.sh - what reads the code without running it: clang-tidy (.clang-tidy says
# what is asked and why not more), cppcheck, shellcheck, mandoc. Needs build/.
# Names what each found, and fails when one found something.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
failed=0

# lint NAME COMMAND...: its output is shown only when it found something.
# The commands are functions below, which shellcheck therefore believes unused (SC2317).
lint() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		echo "$name: clean"
	else
		printf '%s\n' "$output"
		echo "$name: found something"
		failed=1
	fi
}

# shellcheck disable=SC2317
tidy() {
	git ls-files 'src/*.c' | xargs -P "$(nproc)" -n 3 clang-tidy -p build --quiet 2>/dev/null | sed "s,$PWD/,,; s,build/\.\./,,"
}

# cppcheck does not read system headers, so it is shown the one with macros
# that our structs are written with. What it says of leaks and of addresses that
# leave a function is wrong where one thread waits for another to use them.
# shellcheck disable=SC2317
check() {
	local queue
	queue=$(printf '#include <sys/queue.h>\n' | cc -E - | sed -n 's/^# [0-9]* "\(.*sys\/queue\.h\)".*/\1/p;' | head -n 1)
	cppcheck --project=build/compile_commands.json --include="$queue" --enable=warning,performance,portability \
		--suppress=memleak --suppress=autoVariables --suppress='*:tests/*' \
		--inline-suppr --error-exitcode=1 --quiet -j "$(nproc)"
}

# shellcheck disable=SC2317
shell() {
	git ls-files -- ':!*.md' | xargs grep -lE '^#! ?/(usr/bin/env |bin/)(ba)?sh|^# shellcheck shell=' | xargs shellcheck -x
}

# What is made of templates: bash's completion, and the man pages.
# shellcheck disable=SC2317
made() { shellcheck -s bash build/share/stent.bash && mandoc -Tlint -Wwarning build/share/stent.1 build/share/stent.ini.5; }

lint clang-tidy tidy
lint cppcheck check
lint shellcheck shell
lint 'man pages and completion' made
exit $failed
