#!/usr/bin/env python3
"""
embed.py PAGE.html OUT.c HEADER.h NAME - the page as a C array NAME_html, and a
Content-Security-Policy that allows its one <style> and its one <script> by
their hashes, and no others: NAME_policy, and among header lines NAME_headers.
"""
import base64
import hashlib
import re
import sys


def hash_of(page, tag):
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.S)
    return "'sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode() + "'"


source, target, header, name = sys.argv[1:]
with open(source, "rb") as f:
    page = f.read()
policy = (f"default-src 'none'; style-src {hash_of(page, 'style')}; script-src {hash_of(page, 'script')}; "
          "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
rows = [", ".join(map(str, page[i:i + 24])) for i in range(0, len(page), 24)]
with open(target, "w", encoding="ascii") as f:
    f.write(f'#include "{header}"\n\nconst unsigned char {name}_html[] = {{\n\t' + ",\n\t".join(rows) + "\n};\n"
            f"const size_t {name}_html_len = sizeof({name}_html);\n"
            f'const char {name}_policy[] = "{policy}";\n'
            f'const char {name}_headers[] = "Content-Security-Policy: {policy}\\r\\n"\n'
            '\t"Referrer-Policy: no-referrer\\r\\n";\n')
