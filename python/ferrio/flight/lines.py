"""The record as lines of JSON, one a record, for scripts: the fields of ``log.Record`` by name, and the head first."""

import json


def write(log, file):
    """Write the lines as UTF-8 text."""
    head = {"event": "head", "version": 1, "process": log.process, "loops": log.loops, "snapshots": log.snapshots}
    for line in (head, *(record._asdict() for record in log.records)):
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
