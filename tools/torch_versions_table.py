"""Put the outcome of a test run (argument 1: its log) as a row into a Markdown table (2); exit 1 if it failed."""

import datetime
import re
import sys
from pathlib import Path

import torch

HEAD = """# Releases of torch that this package was built and tested against

Made by `tools/check_torch.sh VERSION`: the wheel that PyPI has for Linux x86_64, the package built from source against
it, and `tests/` on the CPU. "not built" and "did not run" mean what they say.

| torch | CUDA of the wheel | ABI of std::string | Python | passed | failed | skipped | date |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
log, table = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
summary = re.findall(r"^(?=.*(?:passed|failed|error)).* in \d+[.\d]*s.*$", log, re.MULTILINE)
if summary:
    count = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", summary[-1])}
    failures = count.get("failed", 0) + count.get("error", 0) + count.get("errors", 0)
    numbers = [str(count.get("passed", 0)), str(failures), str(count.get("skipped", 0))]
elif re.search(r"^\S+ -m pytest ", log, re.MULTILINE):
    numbers, failures = ["built", "the tests ended in a crash", "the rest did not run"], 1
else:
    numbers, failures = ["not built", "did not run", "did not run"], 1
release = torch.__version__.split("+")[0]
cells = [
    torch.__version__,
    torch.version.cuda or "none",
    "new (cxx11)" if torch.compiled_with_cxx11_abi() else "old",
    f"{sys.version_info.major}.{sys.version_info.minor}",
    *numbers,
    datetime.date.today().isoformat(),
]
rows = {}
if table.is_file():
    rows = {line.split("|")[1].strip(): line for line in table.read_text().splitlines() if re.match(r"\| \d", line)}
rows[torch.__version__] = f"| {' | '.join(cells)} |"
table.parent.mkdir(parents=True, exist_ok=True)
ordered = sorted(rows, key=lambda name: [int(part) for part in name.split("+")[0].split(".")])
table.write_text(HEAD + "".join(rows[name] + "\n" for name in ordered))
print(f"torch {release}: {numbers[0]} passed, {numbers[1]} failed, {numbers[2]} skipped")
sys.exit(failures > 0)
