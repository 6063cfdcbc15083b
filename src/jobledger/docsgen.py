"""The documentation pages that are made from code, so that they cannot say something else than it does.

`python -m jobledger.docsgen` writes them, `--check` only compares and names those that are out of date.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .diagrams import state_machines_markdown
from .guarantees import guarantees_markdown
from .jobschema import job_file_reference_markdown, json_schema
from .referencepages import api_markdown, cli_markdown, events_markdown
from .scenarioschema import scenario_reference_markdown, scenario_schema


def pages() -> dict[str, str]:
    """Every generated page: its path from the repository's top, and its text."""
    return {
        "docs/reference/api.md": api_markdown(),
        "docs/reference/cli.md": cli_markdown(),
        "docs/reference/events.md": events_markdown(),
        "docs/reference/guarantees.md": guarantees_markdown(),
        "docs/reference/job-file.md": job_file_reference_markdown(),
        "docs/reference/job-file.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "docs/reference/scenario-file.md": scenario_reference_markdown(),
        "docs/reference/scenario-file.schema.json": json.dumps(scenario_schema(), indent=2) + "\n",
        "docs/reference/state-machines.md": state_machines_markdown(),
    }


def outdated(top: Path) -> list[str]:
    """The generated pages below `top` that are missing or say something else than the code."""
    return [path for path, text in pages().items() if not (top / path).is_file() or (top / path).read_text(encoding="utf-8") != text]


def main(arguments: Sequence[str]) -> int:
    """Write the pages below the current directory (the repository), or with `--check` only look; 0 if all is in order."""
    top = Path.cwd()
    if not (top / "pyproject.toml").is_file():
        sys.stderr.write("docsgen: run this from the top of the repository\n")
        return 2
    old = outdated(top)
    if "--check" in arguments:
        for path in old:
            sys.stderr.write(f"docsgen: {path} is out of date: run 'make docs'\n")
        return 1 if old else 0
    for path in old:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(pages()[path], encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
