"""Run every ```console block of a page again (one command each, its output below it) and write what it prints now.

python docs/rerun.py docs/circuits.md --in FOLDER     # the folder in which the page's atlas lies; `atlas ingest` blocks are left alone
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"```console\n(\$ .*?)\n```", re.DOTALL)


def main() -> int:
    """Rewrite the page; return 1 where a command failed, leaving that block as it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--in", dest="folder", type=Path, default=Path())
    options = parser.parse_args()
    failed: list[str] = []

    def again(block: re.Match[str]) -> str:
        command = command_of(block[1])
        if command.startswith("atlas ingest"):
            return block[0]
        done = subprocess.run(command, shell=True, cwd=options.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(f"{command.splitlines()[0]}: {done.stderr.strip()}")
            return block[0]
        return f"```console\n$ {command}\n" + "\n".join(line.rstrip() for line in done.stdout.rstrip("\n").splitlines()) + "\n```"

    text = options.page.read_text(encoding="utf-8")
    options.page.write_text(BLOCK.sub(again, text), encoding="utf-8")
    for line in failed:
        sys.stderr.write(line + "\n")
    return 1 if failed else 0


def command_of(block: str) -> str:
    """Return the command of a block: its lines up to where every quote is closed."""
    lines = block[2:].splitlines()
    for n in range(1, len(lines) + 1):
        command = "\n".join(lines[:n])
        if command.count('"') % 2 == 0:
            return command
    return block[2:]


if __name__ == "__main__":
    sys.exit(main())
