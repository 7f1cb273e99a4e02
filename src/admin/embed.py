#!/usr/bin/env python3
"""
embed.py PAGE.html OUT.c HEADER.h NAME - the page as a C array NAME_html, and a
Content-Security-Policy that allows its <style> and its <script> by their
hashes, and no others, as NAME_policy. A line "<!-- include FILE -->" of the page
is replaced by a file beside it.
"""
import base64
import hashlib
import pathlib
import re
import sys


def hashes_of(page, tag):
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.S)
    return " ".join("'sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode() + "'" for text in texts) or "'none'"


source, target, header, name = sys.argv[1:]
folder = pathlib.Path(source).parent
page = re.sub(rb"<!-- include (\S+) -->\n", lambda m: (folder / m[1].decode()).read_bytes(), pathlib.Path(source).read_bytes())
form = "'self'" if b"<form method" in page else "'none'"
policy = (f"default-src 'none'; style-src {hashes_of(page, 'style')}; script-src {hashes_of(page, 'script')}; "
          f"connect-src 'self'; img-src data:; base-uri 'none'; form-action {form}; frame-ancestors 'none'")
rows = [", ".join(map(str, page[i:i + 24])) for i in range(0, len(page), 24)]
with open(target, "w", encoding="ascii") as f:
    f.write(f'#include "{header}"\n\nconst unsigned char {name}_html[] = {{\n\t' + ",\n\t".join(rows) + "\n};\n"
            f"const size_t {name}_html_len = sizeof({name}_html);\n"
            f'const char {name}_policy[] = "{policy}";\n')
