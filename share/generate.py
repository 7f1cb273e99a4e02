#!/usr/bin/env python3
"""
generate.py STENT TEMPLATE OUT - makes a man page or a completion of a template:
each line @NAME@ is replaced from the program's own tables (`stent help
--format=json`), and @version@ everywhere.

The shells get possible values as words: FILE is a file, file:FILE a file after
that prefix, all others are literal.
"""
import json
import re
import subprocess
import sys
import textwrap

FILES = ("FILE", "PATH")


# --- what the tables mean ---

def alternatives(value):
    return value.split(" | ")


def words_of_key(key, protocols):
    """The literal words that a key takes as its value, and its files."""
    if key["name"] == "protocol":
        return [p["name"] for p in protocols]
    words = []
    for one in alternatives(key["value"]):
        one = one.removesuffix(", ...")
        if re.fullmatch(r"[a-z_]+", one):
            words.append(one)
        elif one in FILES or re.fullmatch(r"[a-z]+:(FILE|PATH)", one):
            words.append(one.replace("PATH", "FILE"))
    return words


def words_of_option(option):
    if option["words"]:
        return option["words"]
    return ["FILE"] if option.get("value") in FILES else []


def spellings(option):
    return [option[k] for k in ("alias", "name") if k in option]


class Reference:
    """The tables, and for the shells the keys of `stent relay` as options: [(option, words, help)]."""

    def __init__(self, tables):
        self.version = tables["version"]
        self.commands = tables["commands"]
        self.keys = tables["settings"]["keys"]
        self.protocols = tables["settings"]["protocols"]
        self.topics = [c["name"] for c in self.commands] + ["keys"]
        self.relay = [("--" + name, words_of_key(key, self.protocols), key["help"])
                      for key in self.keys if key["name"] not in ("listen", "backend") and not self.is_of_process_too(key)
                      for name in key["names"].split()]
        seen = [json.dumps(o) for c in self.commands for o in c["options"]]
        self.shared = {text: json.loads(text) for text in seen if seen.count(text) > 1}

    def is_of_process_too(self, key):
        """A key of a route with the name of one of [stent]: as an option the name is that of [stent]."""
        return key["section"] != "stent" and any(k["section"] == "stent" and k["name"] == key["name"] for k in self.keys)

    def own_options(self, command):
        return [o for o in command["options"] if json.dumps(o) not in self.shared]


# --- mdoc ---

def sentence(text):
    text = text[0].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def argument(word):
    """A word in a macro's line: none that mdoc would take for a macro, or that ends a string."""
    word = word.replace("\\", "\\e").replace('"', "\\(dq")
    return "\\&" + word if re.fullmatch(r"[A-Z%][a-zA-Z]", word) else word


def text_lines(text):
    """Lines of plain text, each sentence on a line of its own."""
    for one in re.split(r"(?<=[a-z0-9)>][.:?!]) (?=[A-Z])", text):
        for line in textwrap.wrap(one, 78, break_long_words=False, break_on_hyphens=False):
            line = line.replace("\\", "\\e")
            yield "\\&" + line if line[0] in ".'" else line


def prose(text):
    """A paragraph; text in `these` is literal."""
    parts = re.split(r"`([^`]*)`(\S*)", text)
    for i in range(0, len(parts), 3):
        if parts[i].strip():
            yield from text_lines(parts[i].strip())
        if i + 1 < len(parts):
            behind = " ".join(parts[i + 2])
            yield ".Ql " + " ".join(map(argument, parts[i + 1].split())) + (" " + behind if behind else "")


def paragraphs(text):
    """Help as the table has it: paragraphs, and examples behind two blanks."""
    for number, block in enumerate(text.rstrip("\n").split("\n\n")):
        if block.startswith("  "):
            for line in block.splitlines():
                yield ".Dl " + " ".join(map(argument, line.split()))
            continue
        if number:
            yield ".Pp"
        yield from prose(" ".join(block.splitlines()))


def flag(option, spelling):
    """A flag and its value, for a macro's line."""
    value = " Ar " + option["value"] if "value" in option else ""
    return "Fl " + spelling[1:] + value


def words_text(words):
    return " ".join("Ar " + w if w[0].isupper() or w.startswith("[--") else w for w in words)


def usage(command):
    """What follows the command, one macro line each."""
    words = command["words"]
    if words.startswith("["):
        yield ".Op " + " | ".join(("Ar " if w.isupper() else "Cm ") + w for w in words[1:-1].split(" | "))
    else:
        plain, _, repeated = words.partition(" [")
        yield from [".Ar " + plain] if plain else []
        if repeated:
            option, _, value = repeated.removesuffix(" ...]").partition("=")
            yield f".Op Fl {option[1:]} Ns = Ns Ar {value} ..."
    for option in command["options"]:
        yield ".Op " + flag(option, spellings(option)[0])


def synopsis(ref):
    for command in ref.commands:
        yield ".Nm"
        yield ".Cm " + command["name"]
        yield from usage(command)


def option_item(option):
    yield ".It " + " , ".join(flag(option, s) for s in spellings(option)[:-1] + [option["name"]])
    yield from prose(sentence(option["help"]))
    if option["words"]:
        yield "One of"
        for word in option["words"][:-1]:
            yield ".Cm " + word + (" ," if word != option["words"][-2] else "")
        yield "or"
        yield ".Cm " + option["words"][-1] + " ."


def commands(ref):
    for command in ref.commands:
        yield ".It Cm " + command["name"]
        yield from prose(sentence(command["summary"]))
        if "help" in command:
            yield from paragraphs(command["help"])
        own = ref.own_options(command)
        if own:
            yield ".Bl -tag -width Ds"
            for option in own:
                yield from option_item(option)
            yield ".El"


def shared_options(ref):
    for text, option in ref.shared.items():
        users = [c["name"] for c in ref.commands if any(json.dumps(o) == text for o in c["options"])]
        yield from option_item(option)
        yield "Taken by"
        for name in users:
            yield ".Cm " + name + (" ." if name == users[-1] else " ,")


def key_items(ref, section):
    for key in ref.keys:
        if key["section"] != section:
            continue
        value = " | ".join(("Cm " if re.fullmatch(r"[a-z_]+", one) else "Ar ") + argument(one)
                           for one in alternatives(key["value"]))
        yield f".It Ic {key['name']} No = {value}"
        yield from prose(key["help"] + ".")
        if "default" in key:
            yield ".br"
            yield "Default:"
            yield ".Cm " + argument(key["default"])


def protocols(ref):
    for p in ref.protocols:
        yield ".It Cm " + p["name"]
        yield from prose(sentence(p["summary"]))
        yield ".br"
        yield from prose(f"To the client: {p['client']}.")
        yield ".br"
        yield from prose(f"To the backend: {p['backend']}.")


# --- the shells: one function of each yields the lines ---

def bash_commands(ref):
    for command in ref.commands:
        options = [s for o in command["options"] for s in spellings(o)]
        if command["name"] == "relay":
            options = [name + "=" for name, _, _ in ref.relay]
        yield f"\t{command['name']}) echo '{' '.join(options + ['--help'])}' ;;"


def bash_values(ref):
    """Who takes which words: the cases of equal words in one."""
    cases = {}
    for command in ref.commands:
        for option in command["options"]:
            if "value" in option:
                names = [f"'{command['name']} {s}'" for s in spellings(option)]
                cases.setdefault(" ".join(words_of_option(option)), []).extend(names)
    for name, words, _ in ref.relay:
        cases.setdefault(" ".join(words), []).append(f"'relay {name}'")
    for words, names in cases.items():
        yield "\t" + " | ".join(names) + f") echo '{words}' ;;"


def bash_topics(ref):
    yield "\tlocal commands='" + " ".join(c["name"] for c in ref.commands) + "' topics='" + " ".join(ref.topics) + "'"


def zsh_text(text, special="[]:"):
    text = text.replace("\\", "\\\\")
    for c in special:
        text = text.replace(c, "\\" + c)
    return text.replace("'", "'\\''")


def zsh_names(ref):
    for command in ref.commands:
        yield f"\t\t'{command['name']}:{zsh_text(command['summary'], ':')}'"


def zsh_action(name, words):
    return f":{name}:" + (" _stent_words " + " ".join(zsh_text(w, ":") for w in words) if words else " ")


def zsh_commands(ref):
    for command in ref.commands:
        specs = ["'(- *)'{-h,--help}'[print help]'"]
        for o in command["options"]:
            both = f"'({' '.join(spellings(o))})'" + "{" + ",".join(s + ("=" if s == o["name"] and "value" in o else "")
                                                                    for s in spellings(o)) + "}"
            head = both if "alias" in o else f"'{o['name']}" + ("=" if "value" in o else "")
            tail = f"[{zsh_text(o['help'])}]" + (zsh_action(o["value"], words_of_option(o)) if "value" in o else "")
            specs.append(head + ("'" if "alias" in o else "") + tail + "'")
        if command["name"] == "relay":
            specs += ["'1:LISTEN: '", "'2:BACKEND: '", "$keys"]
        if command["name"] == "help":
            specs.append(f"'1:topic:({' '.join(ref.topics)})'")
        if command["words"] == "ID":
            specs.append("'1:ID: '")
        yield f"\t{command['name']})"
        if command["name"] == "relay":      # its keys follow the two addresses
            yield "\t\t((CURRENT < 4)) || keys=("
            yield from (f"\t\t\t'{name}=-[{zsh_text(text)}]{zsh_action('value', words)}'" for name, words, text in ref.relay)
            yield "\t\t)"
        yield "\t\t_arguments -s -S \\\n\t\t\t" + " \\\n\t\t\t".join(specs) + " && ret=0\n\t\t;;"


def fish_text(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_words(words):
    """How a list of words is offered: literal ones, files, files behind a prefix."""
    literal = [w for w in words if not w.endswith("FILE")]
    prefixes = [w.removesuffix("FILE") for w in words if w.endswith(":FILE")]
    how = "-r -F" if "FILE" in words else "-x"
    offered = literal + [f"(__stent_file_behind {p})" for p in prefixes]
    return how + (f" -a {fish_text(' '.join(offered))}" if offered else "")


def fish_commands(ref):
    for command in ref.commands:
        head = "complete -c stent -n"
        yield f"{head} __stent_no_command -a {command['name']} -d {fish_text(command['summary'])}"
        for o in command["options"]:
            short = f" -s {o['alias'][1:]}" if "alias" in o else ""
            values = " " + fish_words(words_of_option(o)) if "value" in o else ""
            yield f"{head} '__stent_command {command['name']}'{short} -l {o['name'][2:]}{values} -d {fish_text(o['help'])}"
    for topic in ref.topics:
        yield f"complete -c stent -n '__stent_command help 2' -a {topic}"
    for name, words, text in ref.relay:
        yield f"complete -c stent -n '__stent_relay' -l {name[2:]} {fish_words(words)} -d {fish_text(text)}"


PARTS = {
    "synopsis": synopsis, "commands": commands, "shared-options": shared_options, "protocols": protocols,
    "keys-stent": lambda ref: key_items(ref, "stent"), "keys-route": lambda ref: key_items(ref, "route"),
    "keys-leg": lambda ref: key_items(ref, "leg"),
    "bash-commands": bash_commands, "bash-values": bash_values, "bash-topics": bash_topics,
    "zsh-names": zsh_names, "zsh-commands": zsh_commands, "fish-commands": fish_commands,
}


def fill(template, ref):
    for line in template.splitlines():
        part = re.fullmatch(r"@([a-z-]+)@", line)
        if part and part[1] in PARTS:
            yield from PARTS[part[1]](ref)
        else:
            yield line.replace("@version@", ref.version)


def main():
    stent, template, out = sys.argv[1:]
    done = subprocess.run([stent, "help", "--format=json"], stdout=subprocess.PIPE, check=True)
    with open(template, encoding="utf-8") as f:
        text = "\n".join(fill(f.read(), Reference(json.loads(done.stdout)))) + "\n"
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
