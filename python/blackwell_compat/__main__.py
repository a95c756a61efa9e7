"""python -m blackwell_compat [--json]: what machine and wheel this is, and what will be used on it."""

import argparse
import json

from blackwell_compat import doctor

parser = argparse.ArgumentParser(prog="python -m blackwell_compat", description=__doc__)
parser.add_argument("--json", action="store_true", help="print the same as JSON, for a bug report")
found = doctor()
print(json.dumps(found, indent=2) if parser.parse_args().json else found)
