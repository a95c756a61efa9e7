"""A wheel's Python under a card: PYTHONPATH=tests python -m fakecard --card "RTX 5090" --wheel 2.4.1 script.py ..."""

import argparse
import os

import fakecard

parser = argparse.ArgumentParser(prog="fakecard", description=__doc__)
parser.add_argument("--card", action="append", required=True, choices=fakecard.cards, help="may be repeated")
parser.add_argument("--wheel", default="2.4.1", help="torch of make wheel-<version>")
parser.add_argument("--latency-ms", type=float, default=0, help="how late a stream's work starts; 0: within the call")
parser.add_argument("--no-peer", action="store_true", help="the cards cannot read each other's memory")
parser.add_argument("--memory-limit", type=int, default=0, help="bytes a card hands out; 0: all it has")
parser.add_argument("python", nargs=argparse.REMAINDER, help="what Python is started with: a script, -c, -m ...")
chosen = parser.parse_args()

python = str(fakecard.wheel_python(chosen.wheel))
environment = fakecard.environment(
    chosen.card,
    chosen.wheel,
    latency_ms=chosen.latency_ms,
    peer=not chosen.no_peer,
    memory_limit=chosen.memory_limit,
)
os.execve(python, [python, *chosen.python], environment)
