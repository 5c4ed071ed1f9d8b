"""A supervisor process whose workers are fake; its exec keeps them so."""

import argparse
import os
import sys
from pathlib import Path

from serving.supervisor.supervise import read_config, serve

HERE = Path(__file__).resolve()

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-fd", type=int, required=True)
    code = serve(
        read_config(parser.parse_args().config_fd),
        (sys.executable, str(HERE.with_name("fake_worker.py"))),
        (sys.executable, str(HERE)),
    )
    sys.stdout.flush()
    os._exit(code)
