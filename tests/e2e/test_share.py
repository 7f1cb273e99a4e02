"""
Man pages and completions, made by share/generate.py as the build does it:
what they say is held to the tables of the program, and the completions are
asked in the shells that they are for.
"""

import json
import os
import pty
import re
import shlex
import subprocess
import sys

import harness
import pytest

pytestmark = pytest.mark.plain

SHARE = harness.ROOT / "share"
FLOWS = "stent relay :1 db:2 "   # its keys stand behind the two addresses


@pytest.fixture(scope="module")
def tables():
    done = harness.run_stent("help", "--format=json")
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with all that is made."""
    folder = tmp_path_factory.mktemp("share")
    for template in SHARE.glob("*.in"):
        subprocess.run([sys.executable, SHARE / "generate.py", harness.stent_bin(), template, folder / template.stem],
                       check=True, timeout=30 * harness.SLOW)
    return folder


def key_names(tables):
    return [name for key in tables["settings"]["keys"] for name in key["names"].split()]


def spellings(option):
    return {option["name"], option.get("alias", option["name"])}


# --- the tables themselves ---

def test_json_of_the_keys_is_that_of_the_whole(tables):
    done = harness.run_stent("help", "keys", "--format=json")
    assert json.loads(done.stdout) == tables["settings"]


def test_help_tells_every_option_of_the_table(tables):
    for command in tables["commands"]:
        text = harness.run_stent(command["name"], "--help").stdout
        told = set(re.findall(r"^  (?:(-\w), )?(--[a-z-]+)", text, re.MULTILINE))
        assert told == {(o.get("alias", ""), o["name"]) for o in command["options"]}


def test_every_option_of_the_table_is_taken_and_no_other(tables):
    for command in tables["commands"]:
        for option in command["options"]:
            if "value" in option:
                done = harness.run_stent(command["name"], option["name"])
                assert "needs a value; write one after it" in done.stderr
            else:
                done = harness.run_stent(command["name"], option["name"] + "=1")
                assert "takes no value" in done.stderr


# --- man pages ---

def test_mandoc_finds_nothing(made):
    for page in ("stent.1", "stent.ini.5"):
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", made / page], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shown(page):
    done = subprocess.run(["mandoc", "-Tascii", "-Owidth=1000", page], capture_output=True, text=True, timeout=30, check=True)
    return re.sub(".\b", "", done.stdout)


def test_the_page_of_the_program_has_every_command_and_option(made, tables):
    text = shown(made / "stent.1")
    for command in tables["commands"]:
        usage = re.search(rf"^ +stent {command['name']}\b(.*)", text, re.MULTILINE)[1]
        for option in command["options"]:
            assert any(s in usage for s in spellings(option)), option
        assert re.search(rf"^     {command['name']}\b", text, re.MULTILINE)


def test_the_page_of_the_settings_has_every_key_and_protocol(made, tables):
    text = shown(made / "stent.ini.5")
    for key in tables["settings"]["keys"]:
        at = re.search(rf"^     {re.escape(key['name'])} = {re.escape(key['value'])}\n +(.*)\n(.*)", text, re.MULTILINE)
        assert at, key["name"]
        told = " ".join(text[at.start():].split())
        assert " ".join(key["help"].split()) in told
        if "default" in key:
            assert f"Default: {key['default']}" in at[2] or f" Default: {key['default']} " in told
    for protocol in tables["settings"]["protocols"]:
        assert re.search(rf"^     {protocol['name']}\b", text, re.MULTILINE)


@pytest.mark.parametrize("page", ["stent.1", "stent.ini.5"])
def test_settings_shown_on_a_page_are_good(page, tmp_path):
    examples = re.findall(r"^\.Bd -literal.*?\n(\[.*?)^\.Ed", (SHARE / f"{page}.in").read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    for text in examples:
        (tmp_path / "stent.ini").write_text(text)
        done = harness.run_stent("check", "-c", tmp_path / "stent.ini")
        assert (done.returncode, done.stderr) == (0, ""), text


def test_calls_shown_on_the_page_are_taken():
    lines = re.findall(r"^\.Dl \$ (.*)", (SHARE / "stent.1.in").read_text(), re.MULTILINE)
    calls = [call.split()[1:] for line in lines for call in line.split(" && ")]
    assert len(calls) > 3
    for command, *words in calls:
        if command == "relay":      # one error, which was put in
            done = harness.run_stent(command, *words, "--urgent=perhaps")
            assert done.stderr.count("\n") == 1 and "--urgent: " in done.stderr
        elif command not in ("run", "check"):
            done = harness.run_stent(command, *words, "--control=/nowhere/control.sock")
            assert done.returncode == 1 and "no stent listens there" in done.stderr


# --- completions ---

def bash_offers(made, line):
    """What bash would put where the cursor is, whole: readline keeps what stands before its last word break."""
    script = ('source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; '
              "complete -p stent >/dev/null && _stent; ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", made / "stent.bash", line], capture_output=True, text=True,
                          timeout=30)
    assert done.stderr == ""
    last = line.rpartition(" ")[2]
    before = re.match(r".*[=:]|", last)[0]
    return {before + offer for offer in done.stdout.splitlines()}


def fish_offers(made, line, home):
    script = 'source $argv[1]; complete -C "$argv[2]"'
    done = subprocess.run(["fish", "--no-config", "-c", script, made / "stent.fish", line], capture_output=True, text=True,
                          timeout=30, env=dict(os.environ, HOME=str(home)))
    assert done.stderr == ""
    return {offer.partition("\t")[0] for offer in done.stdout.splitlines()}


ZSHRC = """
fpath=({folder} $fpath)
autoload -Uz compinit
compinit -D -u
compadd() {{
	# -O, -A and -D only sort; all else offers
	if [[ ${{@[1,(i)(-|--)]}} != *-(O|A|D)\\ * ]]; then
		local -a hits
		builtin compadd -A hits "$@"
		print -rl -- $IPREFIX$^hits >>{out}
	fi
	builtin compadd "$@"
}}
offer() {{
	_main_complete
	compstate[list]=		# a list longer than the screen would be asked for first, and nobody answers
}}
zle -C offer complete-word offer
zle-line-init() {{
	local line
	for line in {lines}; do
		BUFFER=$line
		CURSOR=$#BUFFER
		zle offer
		print -r -- "== next line" >>{out}
	done
	exit
}}
zle -N zle-line-init
"""


def zsh_offers(made, lines, home):
    """zsh completes only on a terminal: an interactive one does it as soon as its line editor begins, of all lines, and ends."""
    home.mkdir(exist_ok=True)
    out = home / "offers"
    out.write_text("")
    (home / ".zshrc").write_text(ZSHRC.format(folder=made, out=out, lines=" ".join(map(shlex.quote, lines))))
    master, slave = pty.openpty()
    process = subprocess.Popen(["zsh", "-i", "-d"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               env=dict(os.environ, ZDOTDIR=str(home), TERM="xterm"))
    os.close(slave)
    try:
        while True:     # until it has ended, which takes its side away
            try:
                if not os.read(master, 4096):
                    break
            except OSError:
                break
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    *found, rest = out.read_text().split("== next line\n")
    assert rest == "" and len(found) == len(lines)
    return [set(filter(None, one.splitlines())) for one in found]


@pytest.fixture(params=["bash", "zsh", "fish"])
def offers(request, made, tmp_path):
    """What the shell offers at the end of a line, without the = behind an option."""
    def many(lines):
        """Of each line; one zsh for all of them."""
        if request.param == "zsh":
            found = zsh_offers(made, lines, tmp_path / "home")
        else:
            found = [bash_offers(made, line) if request.param == "bash" else fish_offers(made, line, tmp_path / "home") for line in lines]
        return [{offer.removesuffix("=") for offer in one} for one in found]

    def offers(line):
        return many([line])[0]
    offers.many = many
    offers.shell = request.param
    return offers


def without_help(offers):
    return offers - {"--help", "-h"}


def test_commands_are_completed(offers, tables):
    assert {o for o in offers("stent ") if o[0] != "-"} == {c["name"] for c in tables["commands"]}
    assert offers("stent he") == {"healthcheck", "help"}
    assert {"--help", "--version"} <= offers("stent -") | offers("stent --")


def test_options_are_completed(offers, tables):
    commands = [c for c in tables["commands"] if c["name"] != "relay"]
    found = offers.many([f"stent {c['name']} --" for c in commands])
    for command, one in zip(commands, found):
        assert without_help(one) == {o["name"] for o in command["options"]}, command["name"]


def test_values_of_options_are_completed(offers, tables, tmp_path):
    (tmp_path / "one.ini").touch()
    with_words = [(c["name"], o) for c in tables["commands"] for o in c["options"] if o["words"]]
    found = iter(offers.many([f"stent {name} {o['name']}{sign}" for name, o in with_words for sign in " ="]))
    for _, option in with_words:
        assert next(found) == set(option["words"])
        assert {o.removeprefix(option["name"] + "=") for o in next(found)} == set(option["words"])
    for spelling in ("-c", "--config"):
        assert {os.path.basename(o) for o in offers(f"stent check {spelling} {tmp_path}/o")} == {"one.ini"}


def test_topics_of_help_are_completed(offers, tables):
    topics = {c["name"] for c in tables["commands"]} | {"keys"}
    assert {o for o in offers("stent help ") if o[0] != "-"} == topics


def test_keys_are_completed(offers, tables):
    known = {"--" + name for name in key_names(tables)} - {"--listen", "--backend"}
    assert without_help(offers(FLOWS + "--")) == known
    assert offers(FLOWS + "--client.keep") == {"--client.keepalive"}
    assert not {o for o in offers("stent relay --") if "keepalive" in o}     # LISTEN and BACKEND come first


def test_values_of_keys_are_completed(offers, tables):
    """Of each kind of value one key: what the table says of it, less what is no word."""
    seen, names, wanted = set(), set(), {}
    for key in tables["settings"]["keys"]:
        if key["name"] in names:		# of a route and of [stent]: an option is that of [stent]
            continue
        names.add(key["name"])
        words = [one for one in key["value"].split(" | ") if re.fullmatch("[a-z_]+", one)]
        if key["value"] in seen or key["name"] in ("listen", "backend", "log", "control", "on_event") or not words or "FILE" in key["value"] or "file:" in key["value"]:
            continue
        seen.add(key["value"])
        start = f"--{key['name']}="
        wanted[start] = {start + word for word in words}
    wanted["--protocol="] = {f"--protocol={p['name']}" for p in tables["settings"]["protocols"]}
    for start, found in zip(wanted, offers.many([FLOWS + start for start in wanted])):
        assert found == wanted[start]
    assert len(seen) > 5


def test_files_behind_keys_are_completed(offers, tmp_path):
    (tmp_path / "one.log").touch()
    assert {"--log=stderr", "--log=syslog", "--log=file:"} == offers(FLOWS + "--log=")
    assert {"--allow=off", "--allow=file:"} == offers(FLOWS + "--allow=")
    (found,) = offers(FLOWS + f"--log=file:{tmp_path}/one")
    assert found.endswith("one.log")
    (found,) = offers(FLOWS + f"--control={tmp_path}/one")
    assert found.endswith("one.log")


def test_every_value_of_a_completion_is_taken(tables):
    """What the shells are told of a key is read by `stent relay`: an error would quote it."""
    sys.path.insert(0, str(SHARE))
    from generate import Reference
    for option, words, _ in Reference(tables).relay:
        for word in words:
            if word.endswith("FILE"):
                continue
            line = ["--heartbeat=off"] if word == "line" else []    # else it needs a text to send
            done = harness.run_stent("relay", "LISTEN", "db:1", f"{option}={word}", *line)
            assert done.returncode == 2 and "LISTEN: " in done.stderr
            assert not re.search(rf'{option}: (unknown protocol )?"{word}"', done.stderr), done.stderr
