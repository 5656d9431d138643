"""`python -m replicator.demo.kafka_parts fetch`: for the Makefile, and for a machine that goes offline later."""

import argparse
import sys

from replicator.demo.kafka_parts.fetch import Parts, PartsError, fetch


def main() -> int:
    """Fetch the parts, or say where they are; the exit code is 1 where one could not be had."""
    parser = argparse.ArgumentParser(prog="python -m replicator.demo.kafka_parts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch what is absent; quiet when all is there")
    fetching.add_argument("--if-possible", action="store_true", help="a part that can't be had is no failure")
    commands.add_parser("where", help="print the folder")
    args = parser.parse_args()
    if args.command == "where":
        print(Parts.here().root)
        return 0
    try:
        fetch(lambda line: print(line, flush=True))
    except (PartsError, OSError) as error:
        lines = str(error).splitlines()
        if args.if_possible:
            print(f"without the real Kafka, Debezium and registry: {lines[0]}")
            return 0
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
