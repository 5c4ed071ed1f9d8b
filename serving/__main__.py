"""`python -m serving --config-fd N`: the supervisor of one gateway."""

import argparse
import os
import sys

from serving.supervisor.signals import hold_back


def main() -> int:
    hold_back()  # before the imports, which take a while and start threads
    from serving.supervisor.supervise import read_config, serve

    parser = argparse.ArgumentParser(prog="python -m serving")
    parser.add_argument("--config-fd", type=int, required=True)
    return serve(read_config(parser.parse_args().config_fd))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A registry that hangs holds a thread for ever; everything durable is on disk by now.
    os._exit(code)
