#!/usr/bin/env python3
"""
make_schema.py - writes schema.json: Kubernetes' published types as a JSON schema, for the kinds that docker/kubernetes uses.

    npm pack kubernetes-types@1.30.0 && tar xzf kubernetes-types-1.30.0.tgz
    tests/kubernetes/make_schema.py package 1.30.0

The npm package kubernetes-types is generated from Kubernetes' OpenAPI description: every field with its type, and whether
it must be there. The schema allows no other field, as the API server does with strict validation.
"""

import json
import pathlib
import re
import sys

KINDS = {"v1": "ConfigMap Service", "apps/v1": "DaemonSet Deployment", "batch/v1": "Job", "networking.k8s.io/v1": "NetworkPolicy"}
PLAIN = {"string": {"type": "string"}, "boolean": {"type": "boolean"}, "number": {"type": "integer"}, "number | string": {"type": ["integer", "string"]},
         "Quantity": {"type": ["number", "string"]}, "Time": {"type": "string"},
         "MicroTime": {"type": "string"}}


class Types:
    def __init__(self, package):
        self.package = pathlib.Path(package)
        self.definitions = {}

    def text(self, module):
        text = (self.package / f"{module}.d.ts").read_text()
        return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)

    def where(self, module, name):
        """The module that an interface's name stands for in this one."""
        for names, source in re.findall(r'import \{([^}]*)\} from "\.\./([^"]+)"', self.text(module)):
            if name in names.replace(" ", "").split(","):
                return source
        return module

    def schema(self, module, kind):
        if kind in PLAIN:
            return PLAIN[kind]
        if found := re.fullmatch(r"Array<(.*)>|(.*)\[\]", kind):
            return {"type": "array", "items": self.schema(module, found[1] or found[2])}
        if found := re.fullmatch(r"\{\s*\[name: string\]: (.*?);?\s*\}", kind, re.DOTALL):
            return {"type": "object", "additionalProperties": self.schema(module, found[1])}
        if found := re.fullmatch(r'"(.*)"', kind):
            return {"const": found[1]}
        module = self.where(module, kind)
        name = f"{module.replace('/', '.')}.{kind}"
        if name not in self.definitions:
            self.definitions[name] = {}		# types refer to themselves
            self.definitions[name] = self.interface(module, kind)
        return {"$ref": f"#/definitions/{name}"}

    def interface(self, module, name):
        (body,) = re.findall(rf"^export interface {name} \{{\n(.*?)^\}}", self.text(module), re.DOTALL | re.MULTILINE)
        fields = re.findall(r'^    "?([\w$-]+)"?(\??): (\{.*?^    \}|[^;{]*?);$', body, re.DOTALL | re.MULTILINE)
        assert fields or not body.strip(), (module, name)
        return {"type": "object", "additionalProperties": False,
                "properties": {field: self.schema(module, kind) for field, _, kind in fields},
                "required": [field for field, optional, _ in fields if not optional]}


def main():
    types = Types(sys.argv[1])
    tops = []
    for version, kinds in KINDS.items():
        module = "core/v1" if version == "v1" else version.replace(".k8s.io", "")
        for kind in kinds.split():
            same = {"properties": {"apiVersion": {"const": version}, "kind": {"const": kind}}, "required": ["apiVersion", "kind"]}
            tops.append({"if": same, "then": types.schema(module, kind)})
    schema = {"$comment": f"Made by make_schema.py from the npm package kubernetes-types {sys.argv[2]} (Apache-2.0), which is generated from "
              "Kubernetes' OpenAPI description.", "allOf": tops,
              "properties": {"kind": {"enum": sorted(" ".join(KINDS.values()).split())}, "apiVersion": {"enum": sorted(KINDS)}},
              "required": ["apiVersion", "kind", "metadata"], "definitions": dict(sorted(types.definitions.items()))}
    (pathlib.Path(__file__).parent / "schema.json").write_text(json.dumps(schema, indent=1) + "\n")


main()
