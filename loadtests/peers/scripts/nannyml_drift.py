"""NannyML's univariate drift over two tables, once per line on standard input."""

import json
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
from nannyml import UnivariateDriftCalculator

warnings.simplefilter("ignore")
reference, live = (np.load(path) for path in sys.argv[1:3])
chunk_rows = int(sys.argv[3])
names = [f"f{i}" for i in range(reference.shape[1])]
reference, live = (pd.DataFrame(table, columns=names) for table in (reference, live))
print(json.dumps({"version": version("nannyml")}), flush=True)
for _ in sys.stdin:
    started = time.process_time()
    calculator = UnivariateDriftCalculator(
        column_names=names,
        continuous_methods=["kolmogorov_smirnov", "jensen_shannon"],
        chunk_size=chunk_rows,
    )
    calculator.fit(reference)
    fitted = time.process_time()
    result = calculator.calculate(live)
    spent_s = time.process_time() - fitted
    table = result.filter(period="analysis").to_df()
    values = [float(table[(n, "kolmogorov_smirnov", "value")].mean()) for n in names]
    print(
        json.dumps({"fit_s": fitted - started, "answer_s": spent_s, "values": values}),
        flush=True,
    )
