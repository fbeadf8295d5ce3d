"""Validates YAML files against a JSON Schema: validate.py SCHEMA VALID... --invalid INVALID..."""

import json
import sys

import jsonschema
import yaml


def mistakes(validator, name):
    with open(name) as file:
        return [error.message for error in validator.iter_errors(yaml.safe_load(file))]


with open(sys.argv[1]) as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
split = sys.argv.index("--invalid")
wrong = [f"{name}: {mistakes(validator, name)}" for name in sys.argv[2:split] if mistakes(validator, name)]
wrong += [f"{name} is said to be valid" for name in sys.argv[split + 1 :] if not mistakes(validator, name)]
sys.exit("\n".join(wrong) or None)
